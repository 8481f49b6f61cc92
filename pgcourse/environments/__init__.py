"""What an agent acts in: small MDPs with exact solutions, linear systems, Pong, and training tasks."""

"""What an agent acts in: small MDPs that are known exactly, linear systems, Pong, and the tasks that algorithms are trained on."""

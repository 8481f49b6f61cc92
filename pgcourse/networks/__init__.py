"""Policies and value functions: tables, multilayer perceptrons, and networks that see pixels."""

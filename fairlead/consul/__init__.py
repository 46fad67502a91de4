"""Consul in the program: its source as settings say, and instances that are registered in it from outside."""

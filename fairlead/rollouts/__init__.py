"""Rollouts in the program: the loops around `mesh.rollout_machine`, and what they are shown."""

"""Decisions about a whole program that are taken before its operations become tasks."""

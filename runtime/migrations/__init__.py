"""Brings a database from any earlier schema to this one."""

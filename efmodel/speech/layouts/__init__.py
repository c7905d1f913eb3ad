"""Layouts of folders: how people's recordings and their texts lie on a disk."""

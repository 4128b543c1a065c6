"""The rooms behind install.py: the project's own environment, its tests, the links into hosts, the doctor.

Standard library only, and nothing of the rest of zit_ext: this is what runs before anything is installed.
"""

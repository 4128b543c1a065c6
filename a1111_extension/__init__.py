"""What zit_ext adds to AUTOMATIC1111 and its relatives. Imports nothing until `scripts/` asks."""

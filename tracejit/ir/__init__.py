"""What a program is: dimensions, types, operations, graphs."""

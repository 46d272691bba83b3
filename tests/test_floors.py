"""The library's floors, while modules move into rooms: those of the rooms that stand follow with the last of them."""

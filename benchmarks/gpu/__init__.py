"""The parts of gpu_check.py, a module a subject. Each has `items(place)`: the names and functions of what it looks at.

A function's findings are a dictionary; an exception is a finding too. What a part needs of the machine it asks its
Place (place.py), so all of them run without a GPU as well, at tiny sizes: `gpu_check.py --rehearse`.
"""

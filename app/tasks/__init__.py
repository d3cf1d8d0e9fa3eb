"""One short file per step of the queue. A task claims its turn and calls the stage; it has no logic of its own.

Tasks are never re-exported from here: a package that did would hand out the task where the module was meant.
"""

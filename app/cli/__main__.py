"""`python -m app.cli`: the command line where the script `explorer` is not on the path, as for a child process."""

from app.cli import main

if __name__ == "__main__":
    main()

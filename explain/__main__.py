"""`python -m explain`: the command `explain`."""

from explain.cli import main

if __name__ == "__main__":
    main()

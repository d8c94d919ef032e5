"""`python -m zoo`, and `torchrun -m zoo`: the command `zoo`."""

from zoo.cli import main

if __name__ == "__main__":
    main()

"""`python -m halfmap` is the program."""

from halfmap.cli.main import main

if __name__ == "__main__":
    main()

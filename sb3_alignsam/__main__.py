"""`python -m sb3_alignsam` is the `sb3-alignsam` command."""

from sb3_alignsam.cli import main

if __name__ == "__main__":
    main()

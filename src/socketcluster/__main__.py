"""Run the command line as `python -m socketcluster`."""

from socketcluster.cli import main

if __name__ == "__main__":
    main()

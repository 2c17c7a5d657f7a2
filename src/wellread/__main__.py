"""``python -m wellread`` is ``wellread``."""

from wellread.cli import main

if __name__ == "__main__":
    main()

"""``python -m attachproto_adapters`` is the command ``attachproto``."""

import sys

from attachproto_adapters._cli import main

sys.exit(main())

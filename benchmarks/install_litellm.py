"""Puts LiteLLM's proxy into a virtual environment of its own, outside the repository.

Run once before a comparison; `benchmarks.run` then finds it. Nothing of it reaches the project's
own environment.

    python -m benchmarks.install_litellm
"""

from __future__ import annotations

import argparse
import subprocess
import venv

from benchmarks.gateways import litellm_cache, litellm_python

VERSION = "1.106.2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--version", default=VERSION)
    version = parser.parse_args().version
    home = litellm_cache()
    if not litellm_python().exists():
        print(f"making {home}")
        venv.create(home, with_pip=True)
    wanted = f"litellm[proxy]=={version}"
    subprocess.run([str(litellm_python()), "-m", "pip", "install", "--quiet", wanted], check=True)
    print(f"{wanted} is at {litellm_python()}")


if __name__ == "__main__":
    main()

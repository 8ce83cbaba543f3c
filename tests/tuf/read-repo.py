#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Reads a TUF repository with another implementation:

	read-repo.py [--targets URL|DIR] [--state DIR] METADATA ROOT [TARGET...]

METADATA  where N.root.json lies: a folder, or a URL (file, http, https); targets are looked for in
          ../targets unless --targets says otherwise
ROOT      the trusted root.json; used when --state holds none yet
--state   keeps what is trusted from run to run (default: nothing is kept)

Refreshes, then prints "TARGET SHA256 LENGTH" for each TARGET that verifies. Exits 0 when all did, 1 at
the first refusal (said on standard error), 77 where that implementation is not installed.
"""
import argparse, hashlib, os, shutil, sys, tempfile, urllib.error, urllib.parse, urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import othertuf  # noqa: E402, F401
from tuf.api.exceptions import DownloadHTTPError  # noqa: E402
from tuf.ngclient import FetcherInterface, Updater  # noqa: E402


class Fetcher(FetcherInterface):
    def _fetch(self, url):
        try:
            with urllib.request.urlopen(url, timeout=20) as f:
                yield f.read()
        except urllib.error.HTTPError as e:
            raise DownloadHTTPError(str(e), e.code)
        except urllib.error.URLError as e:
            if url.startswith("file:"):
                raise DownloadHTTPError(str(e), 404)
            raise


def url_of(place):
    if not place.startswith(("file:", "http:", "https:")):
        place = "file://" + urllib.parse.quote(os.path.abspath(place))
    return place.rstrip("/") + "/"


parser = argparse.ArgumentParser()
parser.add_argument("--targets")
parser.add_argument("--state")
parser.add_argument("metadata")
parser.add_argument("root")
parser.add_argument("target", nargs="*")
o = parser.parse_args()
metadata = url_of(o.metadata)
targets = url_of(o.targets) if o.targets else metadata[:-1].rpartition("/")[0] + "/targets/"

with tempfile.TemporaryDirectory() as work:
    state = o.state or os.path.join(work, "state")
    os.makedirs(state, exist_ok=True)
    if not os.path.exists(os.path.join(state, "root.json")):
        shutil.copyfile(o.root, os.path.join(state, "root.json"))
    os.mkdir(os.path.join(work, "targets"))
    try:
        updater = Updater(state, metadata, os.path.join(work, "targets"), targets, fetcher=Fetcher())
        updater.refresh()
        for path in o.target:
            info = updater.get_targetinfo(path)
            if info is None:
                raise ValueError("%s: no role names this target" % path)
            updater.config.prefix_targets_with_hash = updater._trusted_set.root.consistent_snapshot
            with open(updater.download_target(info, os.path.join(work, "targets", "file")), "rb") as f:
                data = f.read()
            print(path, hashlib.sha256(data).hexdigest(), len(data))
    except Exception as e:  # its exceptions have many bases; every one is a refusal
        print("read-repo: %s: %s" % (type(e).__name__, e), file=sys.stderr)
        sys.exit(1)

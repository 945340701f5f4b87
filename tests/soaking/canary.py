"""The key that must be nowhere but on the vendor's connection, and how it is looked for: plain, percent- and
base64-encoded, in hex.
"""

import base64
import hashlib
import os

CHUNK = 1 << 20


def percent(text):
    """Every byte encoded, in capitals and in small letters."""
    return ["".join(f"%{byte:{form}}" for byte in text.encode()) for form in ("02X", "02x")]


def base64_forms(text):
    """What of the text shows in base64, wherever in a triple it begins, in both alphabets."""
    for lead in range(3):
        raw = b"\0" * lead + text.encode()
        # Characters that neighbours have a share in are left out.
        first, last = (lead * 8 + 5) // 6, len(raw) * 8 // 6
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            yield encode(raw)[first:last].decode()


class Canary:
    """A key made for this run. The letters and digits in its middle are what is looked for: they are the same in every
    spelling that leaves letters as they are."""

    def __init__(self, chance):
        self.core = f"{chance.getrandbits(128):032x}"
        self.key = f"canary/{self.core}+=~"
        forms = {self.core, self.core.upper(), self.core[::-1], self.core.encode().hex(), *percent(self.core)}
        forms.update(base64_forms(self.core))
        self.forms = sorted(form.encode() for form in forms)
        self.searched, self.seen = 0, set()

    def find(self, text):
        """The form that is found in some bytes, or None."""
        self.searched += len(text)
        return next((form.decode() for form in self.forms if form in text), None)

    def find_once(self, head, body):
        """The same, where the same bodies come again and again."""
        digest = hashlib.blake2b(body, digest_size=16).digest()
        if digest in self.seen:
            return self.find(head)
        if len(self.seen) > 50_000:
            self.seen.clear()
        self.seen.add(digest)
        return self.find(head) or self.find(body)

    def find_in_file(self, path):
        """The form that is found in a file, or None. What grows meanwhile is not followed."""
        overlap = max(map(len, self.forms))
        try:
            with open(path, "rb") as file:
                rest, left = b"", os.fstat(file.fileno()).st_size
                while left > 0:
                    chunk = file.read(min(CHUNK, left))
                    if not chunk:
                        return None
                    left -= len(chunk)
                    found = self.find(rest + chunk)
                    if found:
                        return found
                    rest = chunk[-overlap:]
        except OSError:
            pass
        return None

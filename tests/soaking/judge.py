"""Holds every answer of the gateway to what the vendor said: the invariants of the soak are here.

The judge knows what was asked, what came, what the relay noted and when the gateway was away. It does not know the
gateway's rules beyond its documentation, and reads records and fields by itself.
"""

import json
import re
import time

from .said import digest_of

STATUS_OF = {
    "invalid_call_id": 400, "unexpected_query": 400, "unexpected_body": 400, "invalid_host": 400,
    "invalid_request": 400, "cross_site_request": 403, "unknown_workspace": 403, "route_not_found": 404,
    "method_not_allowed": 405, "misdirected_request": 421, "target_too_long": 414, "head_too_large": 431,
    "rate_limit_exceeded": 429, "upstream_unreachable": 502, "upstream_error": 502, "upstream_incomplete": 502,
    "upstream_too_large": 502, "upstream_invalid": 502, "upstream_mismatch": 502,
    "upstream_credentials_rejected": 502, "upstream_leaked_credential": 502, "upstream_circuit_open": 503,
    "overloaded": 503, "upstream_timeout": 504,
}
# What a well-formed request may be told.
HONEST = {code for code, status in STATUS_OF.items() if status in (429, 502, 503, 504)}
# As the gateway is set: see programs.
NOT_FOUND_TTL, FAILURE_TTL, ANSWER_WITHIN = 5.0, 1.0, 5.0
# How much later than the relay somebody else may be, in seconds; on top of it what the machine itself is late by.
SLACK = 2.0
# What a crash may cost is what was kept within the last second.
LAID_DOWN = 3.0


class Ask:
    """A question to the internal endpoint: `target` as it is sent, `vendor_target` as the vendor should see it."""

    def __init__(self, who, target, vendor_target, call=None, etag=None, wait=0, junk=None, sprinkle=()):
        self.who, self.target, self.vendor_target, self.call = who, target, vendor_target, call
        self.etag, self.wait, self.junk = etag, wait, junk
        self.fields = [*sprinkle]
        if etag:
            self.fields.append(("if-none-match", etag))
        if wait:
            self.fields.append(("prefer", f"wait={wait}"))


class CacheStatus:
    """The field of RFC 9211, as far as one cache writes it."""

    def __init__(self, field):
        name, *parameters = [part.strip() for part in (field or "").split(";")]
        self.ours = name == "callgate"
        pairs = [parameter.partition("=") for parameter in parameters]
        self.found = {key: value for key, _, value in pairs}
        self.hit, self.stored = "hit" in self.found, "stored" in self.found
        self.detail = self.found.get("detail")

    @property
    def kept(self):
        return self.hit or self.stored

    @property
    def label(self):
        state = "hit" if self.hit else "stored" if self.stored else "passed"
        return f"{state} {self.detail}" if self.detail else state


class Kept:
    """What was seen to be kept for good: of which bytes, when, and in which life of the gateway."""

    def __init__(self, digest, at, life):
        self.digest, self.at, self.life = digest, at, life


class Judge:
    """Judges answers; remembers what was kept, in which phase each call was seen, and what was purged."""

    def __init__(self, vendor, gateway, canary, foreign, tally, lag):
        self.vendor, self.gateway, self.canary, self.foreign = vendor, gateway, canary, foreign
        self.tally, self.lag = tally, lag
        self.kept, self.phases, self.etags, self.by_etag = {}, {}, {}, {}
        # By id, or under None for all: when a purge began, and when it was answered.
        self.purged = {}

    def violation(self, kind, ask, answer, text):
        said = ""
        if answer is not None:
            said = f" [{answer.status}; {answer.field('cache-status')}; {answer.field('cache-control')}; " \
                   f"asked {time.monotonic() - answer.began:.2f} s ago, took {answer.ended - answer.began:.2f} s]"
        self.tally.violation(kind, f"{ask.who} {ask.target}: {text}{said}")

    def slack(self):
        return SLACK + self.lag.recent()

    def answered(self, ask, answer, life_before):
        """Judges one answer; what it amounts to, for who asked."""
        found = self.canary.find_once(answer.raw[:len(answer.raw) - len(answer.body)], answer.body)
        if found:
            self.violation("canary", ask, answer, f"the key is in the answer, as {found}")
        self._manners(ask, answer)
        status = CacheStatus(answer.field("cache-status"))
        took = answer.ended - answer.began
        if took > ask.wait + ANSWER_WITHIN + self.slack():
            self.violation("late", ask, answer, f"took {took:.1f} s")
        # Before what is kept now takes the place of what was.
        self._still_kept(ask, answer, status, life_before)
        problem = answer.field("content-type") == "application/problem+json"
        if problem:
            outcome = self._problem(ask, answer, status)
        elif ask.junk:
            outcome = "accepted"
            if answer.status not in (400, 414, 431) or answer.body:
                self.violation("junk", ask, answer, f"{ask.junk} was not refused")
            else:
                outcome = f"refused {answer.status}"
        elif answer.status in (200, 304):
            outcome = self._record_or_list(ask, answer, status)
        else:
            outcome = self._passed(ask, answer, status)
        self.tally.count(ask.who, outcome)
        return outcome

    def _manners(self, ask, answer):
        bare = answer.status in (400, 414, 431) and not answer.body
        if not bare and answer.field("x-content-type-options") != "nosniff":
            self.violation("fields", ask, answer, "no nosniff")
        if any(name.startswith("access-control-") or name in ("set-cookie", "www-authenticate", "location")
               for name, _ in answer.fields):
            self.violation("fields", ask, answer, "a field that may not be there")

    def _problem(self, ask, answer, status):
        try:
            told = json.loads(answer.body)
            code = told["error"]["code"]
            sound = (told["type"] == f"urn:callgate:problem:{code}" and told["status"] == answer.status
                     and STATUS_OF.get(code) == answer.status and told["title"] and told["error"]["message"])
        except (ValueError, KeyError, TypeError):
            code, sound = "unreadable", False
        if not sound:
            self.violation("problem", ask, answer, f"no honest problem: {answer.body[:200]!r}")
        expected = code in STATUS_OF and code not in HONEST if ask.junk else code in HONEST
        if not expected:
            self.violation("problem", ask, answer, f"{code} is not the answer to this")
        if answer.status in (429, 503) and not re.fullmatch(r"[0-9]{1,3}", answer.field("retry-after") or ""):
            self.violation("problem", ask, answer, f"retry-after is {answer.field('retry-after')!r}")
        return code

    def _record_or_list(self, ask, answer, status):
        if answer.status == 304:
            digest = self.by_etag.get((ask.vendor_target, answer.field("etag")))
            if ask.etag is None or answer.field("etag") != ask.etag or answer.body:
                self.violation("304", ask, answer, "a 304 for something else")
                return "304"
        else:
            digest = digest_of(answer.body)
        if not status.ours:
            self.violation("fields", ask, answer, "no cache-status")
        outcome = f"{'304 ' if answer.status == 304 else ''}{status.label}"
        if digest is None:
            # A record that came before the ids were remembered, which is long ago.
            return outcome
        if ask.call is None:
            self._fresh(ask, answer, digest, 0)
            if status.kept:
                self.violation("kept", ask, answer, "a list was kept")
            return outcome
        if answer.status == 200:
            self.vendor.readings.of(answer.body, digest)
        reading = self.vendor.readings.digested(digest)
        if reading is None:
            return outcome
        sound = ask.call in reading.ids and reading.workspace == self.vendor.workspace and not reading.echo
        immutable = "immutable" in (answer.field("cache-control") or "")
        if not sound:
            # What is suspect is served as it came, this once.
            if status.kept or answer.field("cache-control") != "no-store" or reading.workspace not in (
                    None, self.vendor.workspace):
                self.violation("suspect", ask, answer, "what is no record of this call was kept or is another's")
            self._fresh(ask, answer, digest, 0)
            return outcome
        if not reading.final:
            if status.kept or immutable or answer.field("cache-control") != "no-store":
                self.violation("ongoing kept", ask, answer, f"status {reading.status!r}")
            self._fresh(ask, answer, digest, 0)
        elif not (self.vendor.ever_said(ask.vendor_target, digest) or self.vendor.truth.get(ask.call) == digest):
            self.violation("bytes", ask, answer, "the vendor never said that")
        self._etag(ask, answer, digest)
        self._no_way_back(ask, answer, reading, digest, immutable)
        if status.hit:
            self._purged_stays_purged(ask, answer)
        if immutable and status.kept:
            known = self.kept.get(ask.vendor_target)
            life = self.gateway.life
            if known is None or known.life != life:
                self.kept[ask.vendor_target] = Kept(digest, answer.ended, life)
        return outcome

    def _fresh(self, ask, answer, digest, ttl):
        """What is not kept was said while this one waited, or just before."""
        if not self.vendor.said_since(ask.vendor_target, answer.began - ttl - self.slack(), 200, digest):
            self.violation("stale", ask, answer, "the vendor did not say that while it was asked for")

    def _etag(self, ask, answer, digest):
        etag = answer.field("etag")
        if not etag or etag.startswith("W/"):
            self.violation("etag", ask, answer, f"etag {etag!r}")
            return
        if self.etags.setdefault(digest, etag) != etag or self.by_etag.setdefault(
                (ask.vendor_target, etag), digest) != digest:
            self.violation("etag", ask, answer, f"{etag} for other bytes, or other tags for the same")

    def _no_way_back(self, ask, answer, reading, digest, immutable):
        """A call is under way, then over, then settled; and then the same for ever."""
        truth = self.vendor.truth.get(ask.call)
        if immutable and digest != truth:
            self.violation("final", ask, answer, "kept for good, and not what the vendor holds in the end")
        phase = reading.phase()
        seen, at = self.phases.get(ask.vendor_target, (0, 0.0))
        if phase < seen and at < answer.began:
            self.violation("final", ask, answer, f"went back from phase {seen} to {phase}")
        elif phase == 2 and digest != truth:
            self.violation("final", ask, answer, "settled, with other bytes than before")
        if phase > seen:
            self.phases[ask.vendor_target] = (phase, answer.ended)

    def _purged_stays_purged(self, ask, answer):
        age = float(answer.field("age") or 0)
        for one in (ask.call, None):
            began, ended = self.purged.get(one, (0.0, 0.0))
            if ended and answer.began > ended and answer.ended - age < began - self.slack():
                self.violation("purge", ask, answer, f"{age:.0f} s old, purged {answer.ended - began:.1f} s ago")

    def _passed(self, ask, answer, status):
        """Another answer of the vendor's, as it came."""
        ttl = NOT_FOUND_TTL if answer.status in (404, 410) else FAILURE_TTL
        since = answer.began - ttl - self.slack()
        if not self.vendor.said_since(ask.vendor_target, since, answer.status, digest_of(answer.body)):
            self.violation("passed", ask, answer, f"the vendor did not say that: {answer.body[:120]!r}")
        if status.stored and answer.status not in (404, 410):
            self.violation("kept", ask, answer, "a failure was kept")
        return f"{answer.status} {status.label}"

    def _forgotten(self, call, since):
        """Whether a call may have been forgotten since: purged, or gone at the vendor."""
        for one in self.vendor.both(call):
            if self.vendor.gone.get(one, 0) > since or one in self.purged and max(self.purged[one]) > since:
                return True
        return None in self.purged and max(self.purged[None]) > since

    def _still_kept(self, ask, answer, status, life_before):
        """What was kept for good answers from then on, whatever becomes of the vendor; after a restart too."""
        kept = self.kept.get(ask.vendor_target)
        life = self.gateway.life
        if kept is None or ask.junk or kept.at >= answer.began or life_before != life:
            return
        if self._forgotten(ask.call, kept.at - LAID_DOWN - self.slack()):
            del self.kept[ask.vendor_target]
            return
        served = status.hit and answer.status in (200, 304)
        if kept.life != life:
            end = self.gateway.lives[kept.life]
            if end.how == "kill" and kept.at > end.ended - LAID_DOWN:
                del self.kept[ask.vendor_target]
                return
            self.tally.count("restart", "kept over it" if served else "lost by it")
        if not served:
            self.violation("lost", ask, answer, f"was kept {answer.began - kept.at:.1f} s before, in life {kept.life}, "
                                                f"and this is {life}")
            del self.kept[ask.vendor_target]

    def failed(self, ask, error, began, warm, life_before):
        """Judges a request that came to no answer. Only a gateway that ends or is away may do that."""
        now = time.monotonic()
        away = self.gateway.away(began, now)
        if away is None:
            said = f"{type(error).__name__}: {error}, while nothing was done to the gateway"
            self.violation("broken", ask, None, said)
        elif away.how == "term" and warm and began < away.signalled - 0.3 and life_before == away.number:
            self.violation("ending", ask, None, f"asked {away.signalled - began:.2f} s before SIGTERM and left without "
                                                f"an answer: {error}")
        else:
            self.tally.count(ask.who, "closed: the gateway was ended")

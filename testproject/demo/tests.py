"""Tests of the demo: `python testproject/manage.py test testproject.demo`."""

# ruff: noqa: PT009  (under Django's own runner, a bare assert would not say what differs)

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any, ClassVar
from unittest.mock import patch

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, SimpleTestCase, TestCase, TransactionTestCase
from django.urls import reverse
from django.utils.html import escape

from django_sse import user_topic
from django_sse.signals import event_sent, stream_closed, stream_opened
from testproject.demo import market
from testproject.demo.models import Article, Job, Match, Message, Notice
from testproject.demo.pages import HERE
from testproject.demo.scenes import SCENES, break_it, job, machine
from testproject.demo.watched import WhileWatched

START = reverse("demo:start")
SIGN_IN = reverse("demo:sign-in")
PAGES = [START, *(reverse(f"demo:{scene.slug}") for scene in SCENES)]


class Told:
    """The events that were sent."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def note(self, *, entry: Any, **_: object) -> None:
        """Take one; a receiver of the signal."""
        self.entries.append(entry)

    def all(self) -> list[tuple[str, str, Any]]:
        """Return topic, name and data of each."""
        return [(one.topic, one.event.name, json.loads(one.event.text)) for one in self.entries]


class Prepared(TestCase):
    """A test that finds the demo as `prepare` leaves it."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Prepare the demo."""
        call_command("prepare", stdout=StringIO())
        cls.ada, cls.grace = (User.objects.get(username=name) for name in ("ada", "grace"))

    ada: ClassVar[User]
    grace: ClassVar[User]

    def sign_in(self, account: str, **others: str) -> Any:
        """Click on an account."""
        return self.client.post(SIGN_IN, {"account": account, **others})

    @contextmanager
    def told(self) -> Iterator[Told]:
        """List the events whose transaction commits."""
        told = Told()
        event_sent.connect(told.note)
        try:
            with self.captureOnCommitCallbacks(execute=True):
                yield told
        finally:
            event_sent.disconnect(told.note)


class PageTests(Prepared):
    """What every page has."""

    def test_pages(self) -> None:
        """Each answers visitors and users, follows something, and is linked from all of them."""
        for account in (None, "ada", "grace"):
            if account:
                self.sign_in(account)
            for page in PAGES:
                with self.subTest(page=page, account=account):
                    response = self.client.get(page)
                    for other in PAGES:
                        self.assertContains(response, f'href="{other}"')
        for page in PAGES:
            if page != reverse("demo:words"):
                self.assertContains(self.client.get(page), "<sse-stream", count=1)

    def test_no_script_of_its_own(self) -> None:
        """Pages load the package's script alone, have no inline script or style, and the strictest policy."""
        for page in PAGES:
            response = self.client.get(page)
            self.assertIn("default-src 'none'; script-src 'self';", response["Content-Security-Policy"])
            html = response.content.decode()
            self.assertNotRegex(html, r"<style|<script(?![^>]* src=)| style=| on\w+=")
            self.assertNotRegex(html, r'<script src="(?!/static/django_sse/)')
        self.assertEqual([path for path in HERE.rglob("*.js") if "static" in path.parts], [])

    def test_sources(self) -> None:
        """A scene's source page shows its real files, escaped, and nothing that the address may choose."""
        for scene in SCENES:
            response = self.client.get(reverse("demo:source", args=[scene.slug]))
            for path, text in scene.sources():
                self.assertContains(response, path)
                self.assertContains(response, escape(text))
        self.assertEqual(self.client.get("/settings/source/").status_code, 404)
        self.assertEqual(self.client.get("/..%2Fprices/source/").status_code, 404)

    def test_where_no_script_runs(self) -> None:
        """Forms whose outcome the stream brings leave the page alone, or load it again where asked to."""
        self.sign_in("ada")
        edit = reverse("demo:scores-edit", args=[Match.objects.all()[0].pk, "home", "more"])
        self.assertEqual(self.client.post(edit).status_code, 204)
        self.assertRedirects(self.client.post(edit, {"reload": "1"}), reverse("demo:scores"))


class AccountTests(Prepared):
    """Signing in with one click."""

    def test_back_to_the_page(self) -> None:
        """Each page's own buttons sign in for that page; the news' also for the admin's form."""
        for page in PAGES:
            self.assertContains(self.client.get(page), f'name="next" value="{page}"')
        add = reverse("admin:demo_article_add")
        self.assertRedirects(self.sign_in("ada", next=add), add)

    def test_only_post_with_token(self) -> None:
        """A link or another site's form signs nobody in or out, and changes nothing."""
        strict = Client(enforce_csrf_checks=True)
        match = Match.objects.all()[0]
        for url in (
            SIGN_IN,
            reverse("demo:sign-out"),
            reverse("demo:scores-edit", args=[match.pk, "home", "more"]),
            reverse("demo:feed-post"),
            reverse("demo:feed-like"),
            reverse("demo:job-start"),
            reverse("demo:break-it-leave"),
            reverse("demo:break-it-do", args=["cut"]),
        ):
            self.assertEqual(strict.get(url).status_code, 405)
            self.assertEqual(strict.post(url, {"account": "ada"}).status_code, 403)

    def test_only_the_made_up_accounts(self) -> None:
        """Any other account needs its password."""
        User.objects.create_superuser("root")
        for account in ("root", "nobody", ""):
            self.assertEqual(self.sign_in(account).status_code, 400)
            self.assertNotIn("_auth_user_id", self.client.session)

    def test_no_open_redirect(self) -> None:
        """Signing in leads nowhere outside."""
        for url in ("https://example.com/", "//example.com/", "javascript:alert(1)", "http:///example.com"):
            self.assertRedirects(self.sign_in("grace", next=url), START)

    def test_sign_out(self) -> None:
        """Signing out leads back to the page of a visitor."""
        self.sign_in("ada")
        self.assertContains(self.client.get(START), "Signed in as Ada")
        response = self.client.post(reverse("demo:sign-out"), follow=True)
        self.assertNotContains(response, "Signed in as")


class PrepareTests(TestCase):
    """The command `prepare`."""

    def test_twice(self) -> None:
        """The second run changes nothing and says nothing; the accounts have no password."""
        call_command("prepare", stdout=StringIO())
        before = self.rows()
        said = StringIO()
        call_command("prepare", stdout=said)
        self.assertEqual((said.getvalue(), self.rows()), ("", before))
        self.assertFalse(any(user.has_usable_password() for user in User.objects.all()))

    def test_jobs_of_an_earlier_process(self) -> None:
        """What still ran when the server ended has failed."""
        Job.objects.create(key="a", label="Old", total=9)
        call_command("prepare", stdout=StringIO())
        self.assertEqual(Job.objects.get().state, "failed")

    def rows(self) -> list[Any]:
        """Return what stands in the tables."""
        return [row for model in (User, Article, Match, Message) for row in model._base_manager.values()]


class NewsTests(Prepared):
    """Articles from the admin."""

    def test_an_article_in_the_admin(self) -> None:
        """Writing, editing and deleting in the admin is told to the topic of the articles."""
        self.sign_in("ada")
        fields = {"title": "Tea", "body": "At four.", "published_0": "2026-01-02", "published_1": "16:00"}
        with self.told() as told:
            self.client.post(reverse("admin:demo_article_add"), fields)
        article = Article.objects.get(title="Tea")
        with self.told() as more:
            self.client.post(
                reverse("admin:demo_article_change", args=[article.pk]), fields | {"body": "Now."}
            )
            self.client.post(reverse("admin:demo_article_delete", args=[article.pk]), {"post": "yes"})
        found = [(topic, name, data["pk"], data["body"]) for topic, name, data in told.all() + more.all()]
        expected = [("created", "At four."), ("updated", "Now."), ("deleted", "Now.")]
        self.assertEqual(found, [("articles", f"article-{do}", article.pk, body) for do, body in expected])
        data = told.all()[0][2]
        self.assertEqual((data["text"], data["shown"]), ("News: Tea", "02 Jan, 16:00 UTC"))
        self.assertEqual(data["edit"], reverse("admin:demo_article_change", args=[article.pk]))


class ScoreTests(Prepared):
    """The scoreboard."""

    def test_editing(self) -> None:
        """Each press counts, is told with the row's version, and no side has less than nothing."""
        self.sign_in("ada")
        match = Match.objects.create(home="Here", away="There")
        with self.told() as told:
            for side, step in (("home", "more"), ("home", "more"), ("away", "less"), ("home", "less")):
                self.client.post(reverse("demo:scores-edit", args=[match.pk, side, step]))
        lines = [data["line"] for topic, name, data in told.all() if (topic, name) == ("scores", match.event)]
        self.assertEqual(lines, [f"Here {goals} : 0 There" for goals in (1, 2, 2, 1)])
        for wrong in (["up", "more"], ["home", "twice"]):
            url = reverse("demo:scores-edit", args=[match.pk, *wrong])
            self.assertEqual(self.client.post(url).status_code, 404)

    def test_only_the_staff(self) -> None:
        """Visitors and readers see no buttons, and their requests change nothing."""
        match = Match.objects.all()[0]
        url = reverse("demo:scores-edit", args=[match.pk, "home", "more"])
        for account in (None, "grace"):
            if account:
                self.sign_in(account)
            self.assertNotContains(self.client.get(reverse("demo:scores")), url)
            self.assertEqual(self.client.post(url).status_code, 302)
        self.assertEqual(str(Match.objects.get(pk=match.pk)), str(match))


class FeedTests(Prepared):
    """The feed."""

    def test_a_message(self) -> None:
        """It is told to all as HTML, escaped, and who is mentioned is told alone."""
        self.sign_in("ada")
        with self.told() as told:
            self.client.post(reverse("demo:feed-post"), {"text": "<b>Tea</b>, @grace?"})
        message = Message.objects.all()[0]
        self.assertEqual(str(message), "ada: <b>Tea</b>, @grace?")
        (fragment, removal, posted, notice) = told.all()
        self.assertEqual(fragment[:2], ("feed", "sse-fragment"))
        self.assertIn("&lt;b&gt;Tea&lt;/b&gt;, @grace?", fragment[2]["html"])
        self.assertEqual((removal[0], removal[2]["swap"]), ("feed", "remove"))
        self.assertEqual(posted, (user_topic(self.ada), "posted", None))
        self.assertEqual(notice[:2], (user_topic(self.grace), "notice"))
        self.assertEqual(notice[2]["text"], "Ada mentions you: <b>Tea</b>, @grace?")
        self.assertContains(self.client.get(reverse("demo:feed")), "&lt;b&gt;Tea&lt;/b&gt;")
        self.assertNotContains(self.client.get(reverse("demo:feed")), "mentions you")

    def test_a_like(self) -> None:
        """The number is told to all, the first time also the author alone; a second press takes it back."""
        message = Message.objects.filter(author=self.grace)[0]
        self.sign_in("ada")
        with self.told() as told:
            for _ in range(2):
                self.client.post(reverse("demo:feed-like"), {"message": message.pk})
        numbers = [data["html"].strip() for topic, _, data in told.all() if topic == "feed"]
        notices = [data["text"] for topic, _, data in told.all() if topic == user_topic(self.grace)]
        self.assertEqual((numbers, notices), (["1", "0"], [f"Ada likes: {message.text}"]))
        self.assertEqual(Notice.objects.get().to, self.grace)

    def test_wrong_messages(self) -> None:
        """What is empty, too long, or from nobody is kept and told nowhere."""
        before = Message.objects.count()
        with self.told() as told:
            self.assertEqual(self.client.post(reverse("demo:feed-post"), {"text": "Hello"}).status_code, 302)
            self.sign_in("ada")
            for text in ("", " ", "a" * 141):
                self.assertEqual(self.client.post(reverse("demo:feed-post"), {"text": text}).status_code, 400)
            for pk, status in {"": 400, "x": 400, "99999": 404}.items():
                url = reverse("demo:feed-like")
                self.assertEqual(self.client.post(url, {"message": pk}).status_code, status)
        self.assertEqual((told.all(), Message.objects.count()), ([], before))


class JobTests(TransactionTestCase):
    """The long job, whose thread has a connection of its own."""

    def work(self, **fields: str) -> Job:
        """Press the button, and do the work without its pauses."""
        with patch("testproject.demo.scenes.job.threading.Thread") as thread:
            self.client.post(reverse("demo:job-start"), fields)
        row, paths = thread.call_args.kwargs["args"]
        with patch.object(job, "connection"):  # the test's own, here
            job.run(row, paths, seconds=0)
        return Job.objects.get(key=row.key)

    def test_a_job(self) -> None:
        """It hashes every file, the same ones each time, and the page shows it."""
        told = Told()
        event_sent.connect(told.note)
        self.addCleanup(event_sent.disconnect, told.note)
        one, other = self.work(), self.work()
        self.assertEqual((one.state, one.percent, one.label), ("done", 100, "Hashing for a visitor"))
        self.assertGreater(one.total, 100)
        self.assertEqual((len(one.digest), one.digest), (64, other.digest))
        self.assertEqual({name for _, name, _ in told.all()}, {"progress", "sse-fragment"})
        self.assertContains(self.client.get(reverse("demo:job")), one.digest, count=2)

    def test_a_job_that_fails(self) -> None:
        """Where a file is missing the job fails, and its bar stands where it was."""
        with self.assertLogs("testproject.demo.scenes.job", "WARNING"):
            row = self.work(fails="yes")
        self.assertEqual((row.state, row.percent, row.digest), ("failed", 66, ""))

    def test_not_too_many(self) -> None:
        """Where as many run as may, the next is not begun, and the pages say so."""
        for number in range(job.AT_ONCE):
            Job.objects.create(key=str(number), label="Running", total=9)
        told = Told()
        event_sent.connect(told.note)
        self.addCleanup(event_sent.disconnect, told.note)
        self.assertEqual(self.client.post(reverse("demo:job-start")).status_code, 204)
        self.assertEqual(Job.objects.count(), job.AT_ONCE)
        self.assertEqual([name for _, name, _ in told.all()], ["toast"])


class WordTests(Prepared):
    """The iterator."""

    async def test_words(self) -> None:
        """All words come, in order, and an end behind which a browser stays away."""
        with patch.dict("testproject.demo.scenes.words.SPEEDS", {"calm": 1e6}):
            response: Any = await self.async_client.get(reverse("demo:words-stream"))
            body = b"".join([bytes(part) async for part in response])
        blocks = body.decode().split("\n\n")
        data = [json.loads(block.split("data: ")[1]) for block in blocks if "event: word" in block]
        text = (HERE / "texts" / "note-g.txt").read_text()
        self.assertEqual("".join(one["word"] for one in data), text + " ")
        self.assertEqual([one["place"] for one in data], list(range(len(data))))
        self.assertEqual(data[-1]["percent"], 100)
        self.assertIn(b'"reconnect":false', body)


class BreakTests(Prepared):
    """The buttons that break things."""

    def press(self, fault: str) -> None:
        """Press one."""
        self.assertEqual(self.client.post(reverse("demo:break-it-do", args=[fault])).status_code, 204)

    async def status(self) -> int:
        """Ask for a stream of the numbers."""
        response = await self.async_client.head(reverse("django_sse:stream"), {"topic": "ticks"})
        return response.status_code

    async def test_deploy(self) -> None:
        """Streams are turned away, and taken again afterwards; pages are served all the time."""
        self.assertEqual(await self.status(), 200)
        await self.async_client.post(reverse("demo:break-it-do", args=["deploy"]))
        self.addCleanup(setattr, break_it.faults, "is_down_until", 0.0)
        self.assertEqual(await self.status(), 503)
        self.assertEqual((await self.async_client.get(START)).status_code, 200)
        break_it.faults.is_down_until = 0.0
        self.assertEqual(await self.status(), 200)

    def test_the_layer(self) -> None:
        """While it is stopped a number is stored, and nothing is announced."""
        self.addCleanup(setattr, break_it, "faults", break_it.faults)
        break_it.faults = break_it.Faults()
        with self.told() as told:
            self.press("stop-layer")
            break_it.send(1001)
            self.press("start-layer")
            break_it.send(1002)
        numbers = [(data["number"], data["silent"]) for _, _, data in told.all()]
        self.assertEqual(numbers, [(2, False)])

    def test_fill(self) -> None:
        """More is stored than is kept, and streams are taken again at once."""
        with patch.object(break_it, "FILLER", 20), patch.object(break_it, "get_history") as history:
            self.press("fill")
        self.assertEqual(history().append.call_count, 20)
        self.assertFalse(break_it.faults.is_down)

    def test_leaving(self) -> None:
        """The other tab signs out; nothing else is broken by a name that is none."""
        self.sign_in("grace")
        self.assertContains(self.client.post(reverse("demo:break-it-leave")), "You are signed out.")
        self.assertNotIn("_auth_user_id", self.client.session)
        self.assertEqual(self.client.post(reverse("demo:break-it-do", args=["nothing"])).status_code, 404)


class TopicTests(Prepared):
    """Who may follow what."""

    async def test_topics(self) -> None:
        """Visitors may follow what the scenes send, and nothing else; users always their own topic."""
        public = ["articles", "feed", "jobs", "machine", "prices", "scores", "ticks"]
        for topic, status in {**dict.fromkeys(public, 200), "user.1": 401, "others": 401}.items():
            with self.subTest(topic=topic):
                response = await self.async_client.head(reverse("django_sse:stream"), {"topic": topic})
                self.assertEqual(response.status_code, status)
        await self.async_client.aforce_login(self.grace)
        self.assertEqual((await self.async_client.head(reverse("django_sse:stream"))).status_code, 200)


class MarketTests(SimpleTestCase):
    """The simulated market."""

    def test_prices(self) -> None:
        """Prices are functions of the time, move, stay near where they opened, and say how they moved."""
        start = 7_000_000
        first = list(market.quotes(start))
        market.price_at.cache_clear()
        self.assertEqual(first, list(market.quotes(start)))
        seen = set()
        for tick in range(start, start + 400):
            for quote in market.quotes(tick):
                self.assertLess(abs(float(quote.price) / market.COMPANIES[quote.symbol][1] - 1), 0.1)
                self.assertIn(quote.change[0], "▲" if quote.trend == "up" else "▼")
                self.assertEqual(len(quote.points.split()), market.POINTS)
                seen.add((quote.symbol, quote.price))
        self.assertGreater(len(seen), 400)


class MachineTests(SimpleTestCase):
    """The figures of this computer."""

    def test_figures(self) -> None:
        """They are shares between nothing and all, and a line of as many points as seconds were read."""
        meter = machine.Meter()
        for _ in range(3):
            meter.read()
        told = meter.computer() | meter.process()
        for name in ("cpu", "memory"):
            self.assertLessEqual(0, int(told[name].removesuffix(" %")))
            self.assertGreaterEqual(100, int(told[name].removesuffix(" %")))
        for name in ("cpu_line", "memory_line", "streams_line", "rate_line"):
            self.assertEqual(len(told[name].split()), 3)


class WatchedTests(SimpleTestCase):
    """Work that is done while somebody watches."""

    class Stream:
        """A stream, as far as it matters here."""

        topics = ("watched",)

    def test_from_the_first_stream_to_the_last(self) -> None:
        """Nothing is done before the first stream; it is done while there is one; and ends with a word."""
        done, left = threading.Event(), threading.Event()
        ticks: list[int] = []

        def act(tick: int) -> None:
            ticks.append(tick)
            if len(ticks) == 3:
                done.set()

        watched = WhileWatched("watched", act, rate=200, linger=0, leave=left.set)
        for stream in (object(), self.Stream()):
            stream_opened.send_robust(sender=None, stream=stream)
        self.assertTrue(done.wait(10))
        self.assertFalse(left.is_set())
        stream_closed.send_robust(sender=None, stream=self.Stream())
        self.assertTrue(left.wait(10))
        self.assertEqual(ticks, sorted(ticks))
        self.assertLessEqual(ticks[-1], watched.now())

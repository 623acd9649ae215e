"""Tests of the demo: `python testproject/manage.py test testproject.demo`."""

# ruff: noqa: PT009  (under Django's own runner, a bare assert would not say what differs)

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any
from unittest.mock import patch

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client, TestCase
from django.urls import reverse

from django_sse import user_topic
from django_sse.signals import event_sent
from testproject.demo import views
from testproject.demo.hashing import AT_ONCE, SHOWN, Hashing
from testproject.demo.market import COMPANIES, Market
from testproject.demo.models import Article, Note

INDEX = reverse("demo:index")
SIGN_IN = reverse("demo:sign-in")
SEND_NOTE = reverse("demo:send-note")
JOB = reverse("demo:job")


class Prepared(TestCase):
    """A test that finds the demo as `prepare` leaves it."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Prepare the demo."""
        call_command("prepare", stdout=StringIO())

    def sign_in(self, account: str, **others: str) -> Any:
        """Click on an account."""
        return self.client.post(SIGN_IN, {"account": account, **others})


class PageTests(Prepared):
    """What the page shows before any event comes."""

    def test_a_visitor(self) -> None:
        """A visitor sees articles and prices, follows their topics, and is offered the two accounts."""
        response = self.client.get(INDEX)
        for article in Article.objects.all():
            self.assertContains(response, article.title)
        for symbol in COMPANIES:
            self.assertContains(response, f'data-sse-on="price-{symbol}"')
        self.assertContains(response, "<sse-stream", count=1)
        self.assertContains(response, "?topic=articles&amp;topic=prices")
        self.assertContains(response, 'value="ada"')
        self.assertContains(response, 'value="grace"')
        self.assertNotContains(response, "Signed in as")

    def test_a_user(self) -> None:
        """A signed-in user sees who they are and their own notes, but nobody else's."""
        ada, grace = (get_user_model().objects.get(username=name) for name in ("ada", "grace"))
        Note.objects.create(recipient=grace, sender="Ada", text="for Grace <b>alone</b>")
        Note.objects.create(recipient=ada, sender="Grace", text="for Ada")
        self.sign_in("grace")
        response = self.client.get(INDEX)
        self.assertContains(response, "Signed in as <strong>Grace</strong>")
        self.assertContains(response, "for Grace &lt;b&gt;alone&lt;/b&gt;")
        self.assertNotContains(response, "for Ada")
        self.assertNotContains(response, reverse("admin:demo_article_add") + '">Write in the admin')

    def test_no_inline_script_or_style(self) -> None:
        """The page keeps to its own Content Security Policy."""
        for page in (INDEX, JOB):
            response = self.client.get(page)
            self.assertIn("script-src 'self'; style-src 'self'", response["Content-Security-Policy"])
            self.assertNotRegex(response.content.decode(), r"<style|<script(?![^>]* src=)| style=| on\w+=")


class AccountTests(Prepared):
    """Signing in with one click."""

    def test_ada_may_write(self) -> None:
        """Ada goes on to the admin's form for articles, signed in."""
        add = reverse("admin:demo_article_add")
        self.assertRedirects(self.sign_in("ada", next=add), add)

    def test_back_to_the_page(self) -> None:
        """Each page's own buttons sign in for that page, also where it was the answer to a form."""
        for page in (INDEX, JOB):
            self.assertContains(self.client.get(page), f'name="next" value="{page}"')
        self.assertContains(self.client.post(SEND_NOTE), f'name="next" value="{INDEX}"', status_code=400)

    def test_only_post_with_token(self) -> None:
        """A link or another site's form signs nobody in or out, and sends no note."""
        strict = Client(enforce_csrf_checks=True)
        self.assertEqual(strict.post(JOB).status_code, 403)
        for url in (SIGN_IN, reverse("demo:sign-out"), SEND_NOTE):
            self.assertEqual(strict.get(url, {"account": "ada"}).status_code, 405)
            self.assertEqual(strict.post(url, {"account": "ada"}).status_code, 403)

    def test_only_the_made_up_accounts(self) -> None:
        """Any other account needs its password."""
        get_user_model().objects.create_superuser("root")
        for account in ("root", "nobody", ""):
            self.assertEqual(self.sign_in(account).status_code, 400)
            self.assertNotIn("_auth_user_id", self.client.session)

    def test_no_open_redirect(self) -> None:
        """Signing in leads nowhere outside."""
        for url in ("https://example.com/", "//example.com/", "javascript:alert(1)", "http:///example.com"):
            self.assertRedirects(self.sign_in("grace", next=url), INDEX)

    def test_sign_out(self) -> None:
        """Signing out leads back to the page of a visitor."""
        self.sign_in("ada")
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
        self.assertFalse(any(user.has_usable_password() for user in get_user_model().objects.all()))

    def rows(self) -> list[Any]:
        """Return what stands in the tables."""
        return [*get_user_model().objects.values(), *Article.objects.values()]


class EventTests(Prepared):
    """What is sent, and to whom."""

    @contextmanager
    def sent(self) -> Iterator[list[tuple[str, str, Any]]]:
        """List topic, name and data of the events whose transaction commits."""
        events: list[tuple[str, str, Any]] = []

        def note(*, entry: Any, **_: object) -> None:
            events.append((entry.topic, entry.event.name, json.loads(entry.event.text)))

        event_sent.connect(note)
        try:
            with self.captureOnCommitCallbacks(execute=True):
                yield events
        finally:
            event_sent.disconnect(note)

    def test_an_article_in_the_admin(self) -> None:
        """Writing, editing and deleting in the admin is told to the topic of the articles."""
        self.sign_in("ada")
        fields = {"title": "Tea", "body": "At four.", "published_0": "2026-01-02", "published_1": "16:00"}
        with self.sent() as events:
            self.client.post(reverse("admin:demo_article_add"), fields)
        article = Article.objects.get(title="Tea")
        with self.sent() as more:
            self.client.post(
                reverse("admin:demo_article_change", args=[article.pk]), fields | {"body": "Now."}
            )
            self.client.post(reverse("admin:demo_article_delete", args=[article.pk]), {"post": "yes"})
        told = [(topic, name, data["pk"], data["body"]) for topic, name, data in events + more]
        expected = [("created", "At four."), ("updated", "Now."), ("deleted", "Now.")]
        self.assertEqual(told, [("articles", f"article-{do}", article.pk, body) for do, body in expected])

    def test_a_note_to_one_user(self) -> None:
        """A note is sent to its recipient's own topic alone, from a user or a visitor, and is kept."""
        ada, grace = (get_user_model().objects.get(username=name) for name in ("ada", "grace"))
        with self.sent() as events:
            self.client.post(SEND_NOTE, {"to": "ada", "text": "<b>Hello</b>"})
            self.sign_in("ada")
            answer = self.client.post(
                SEND_NOTE, {"to": "grace", "text": "Tea?"}, headers={"accept": "application/json"}
            )
        self.assertEqual(answer.json(), {"to": "Grace"})
        told = [(topic, name, data["sender"], data["text"]) for topic, name, data in events]
        expected = [(ada, "A visitor", "<b>Hello</b>"), (grace, "Ada", "Tea?")]
        self.assertEqual(told, [(user_topic(user), "note", *rest) for user, *rest in expected])
        self.assertEqual([note.text for note in Note.objects.filter(recipient=grace)], ["Tea?"])

    def test_a_wrong_note(self) -> None:
        """A note without text, too long, or to somebody else is sent to nobody."""
        with self.sent() as events:
            for data in ({"to": "ada"}, {"to": "ada", "text": "a" * 141}, {"to": "root", "text": "a"}):
                self.assertEqual(self.client.post(SEND_NOTE, data).status_code, 400)
        self.assertEqual((events, Note.objects.count()), ([], 0))


class JobTests(Prepared):
    """The long job."""

    def setUp(self) -> None:
        """Take a place of its own for jobs, which is told what is sent as the demo's is."""
        self.hashing = Hashing()
        event_sent.connect(self.hashing.note)
        self.addCleanup(event_sent.disconnect, self.hashing.note)
        patched = patch.object(views, "hashing", self.hashing)
        patched.start()
        self.addCleanup(patched.stop)

    def run_job(self, *, fails: bool = False) -> dict[str, Any]:
        """Do a job's work, without the pauses, and return what was told of it."""
        thread = self.hashing.start("Ada", fails=fails, seconds=0)
        self.assertIsNotNone(thread)
        if thread is not None:
            thread.join()
        return self.hashing.jobs()[0]

    def test_a_job(self) -> None:
        """It hashes every file, the same ones each time, and the page shows it."""
        self.assertContains(self.client.get(JOB), "No job yet")
        job, other = self.run_job(), self.run_job()
        self.assertEqual((job["state"], job["percent"], job["label"]), ("done", 100, "Job 1, for Ada"))
        self.assertGreater(job["total"], 100)
        self.assertEqual(len(job["digest"]), 64)
        self.assertEqual(job["digest"], other["digest"])
        self.assertNotEqual(job["id"], other["id"])
        response = self.client.get(JOB)
        self.assertContains(response, f'id="job-{job["id"]}" data-state="done"')
        self.assertContains(response, 'data-sse-key="percent" value="100"', count=2)

    def test_a_job_that_fails(self) -> None:
        """Where a file is missing the job fails, and its bar stands where it was."""
        with self.assertLogs("testproject.demo.hashing", "WARNING"):
            job = self.run_job(fails=True)
        self.assertEqual((job["state"], job["percent"]), ("failed", 66))
        self.assertNotIn("digest", job)
        self.assertContains(self.client.get(JOB), 'data-state="failed"')

    def test_the_button(self) -> None:
        """It starts a job for whoever pressed it, and says so where too many run already."""
        with patch.object(Hashing, "_run") as run:  # it begins, and never ends
            self.assertRedirects(self.client.post(JOB), JOB)
            self.sign_in("grace")
            json = self.client.post(JOB, {"fails": "yes"}, headers={"accept": "application/json"})
            self.assertEqual((json.status_code, json.json()), (200, {"message": ""}))
            for _ in range(AT_ONCE - 2):
                self.client.post(JOB)
            self.assertContains(self.client.post(JOB), f"{AT_ONCE} run already", status_code=409)
            json = self.client.post(JOB, headers={"accept": "application/json"})
            self.assertEqual(json.status_code, 409)
        told = [call.args[:2] for call in run.call_args_list]
        self.assertEqual(told[:2], [("Job 1, for a visitor", False), ("Job 2, for Grace", True)])
        self.assertEqual(len(told), AT_ONCE)

    def test_only_the_latest(self) -> None:
        """The page shows as many as its template keeps."""
        for _ in range(SHOWN + 1):
            self.run_job()
        self.assertEqual(len(self.hashing.jobs()), SHOWN)
        self.assertContains(self.client.get(JOB), f'data-sse-max="{SHOWN}"')


class TopicTests(Prepared):
    """Who may follow what."""

    async def test_a_visitor(self) -> None:
        """A visitor may follow articles, prices and jobs, and nothing else."""
        for topic, status in {
            "articles": 200,
            "prices": 200,
            "jobs": 200,
            "user.1": 401,
            "others": 401,
        }.items():
            with self.subTest(topic=topic):
                response = await self.async_client.head(reverse("django_sse:stream"), {"topic": topic})
                self.assertEqual(response.status_code, status)

    async def test_a_user(self) -> None:
        """A signed-in user always follows their own topic."""
        await self.async_client.aforce_login(await get_user_model().objects.aget(username="grace"))
        response = await self.async_client.head(reverse("django_sse:stream"))
        self.assertEqual(response.status_code, 200)


class MarketTests(TestCase):
    """The simulated market."""

    def test_walk(self) -> None:
        """The same seed gives the same walk, whose prices stay near where they opened."""
        one, other = Market(seed=7), Market(seed=7)
        for _ in range(2000):
            quote = one.step()
            self.assertEqual(quote, other.step())
            self.assertLess(abs(float(quote.price) / COMPANIES[quote.symbol][1] - 1), 0.3)
            self.assertIn(quote.change[0], "▲" if quote.trend == "up" else "▼")

"""List who may follow which topics."""

from typing import Any

from django.core.management.base import BaseCommand

from django_sse.access import everybody, rules


class Command(BaseCommand):
    """List the project's topic rules, each with the function that decides."""

    help = "List the rules for who may follow which topics. What none of them allows is refused."

    def handle(self, **_: Any) -> None:
        """Write a line for each rule, and one for the topics that need none."""
        lines = [("user.<pk>", "that user alone")]
        for rule in rules():
            function = rule.function
            name = getattr(function, "__qualname__", type(function).__qualname__)
            who = "everybody" if function is everybody else f"{function.__module__}.{name}"
            lines.append((rule.pattern, who))
        width = max(len(pattern) for pattern, _ in lines)
        for pattern, who in lines:
            self.stdout.write(f"{pattern:{width}}  {who}")

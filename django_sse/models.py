"""What the admin shows; no table stands behind it."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Process(models.Model):
    """A process of the site: the name under which the admin shows its streams, and who may look."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("process")
        verbose_name_plural = _("event streams")

    def __str__(self) -> str:
        return str(self._meta.verbose_name)

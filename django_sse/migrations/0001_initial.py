"""Make the admin's page and the permission to see it; no table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """See above."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Process",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
            ],
            options={
                "verbose_name": "process",
                "verbose_name_plural": "event streams",
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    )

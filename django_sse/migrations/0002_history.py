"""Make the tables of the history in a database, which stay empty where another history is chosen."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """See above."""

    dependencies = [
        ("django_sse", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Clock",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("secret", models.BigIntegerField()),
                ("version", models.BigIntegerField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "topic", "offset", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("topic", models.CharField(max_length=32)),
                ("offset", models.BigIntegerField()),
                ("tag", models.BigIntegerField()),
                ("previous", models.BigIntegerField()),
                ("time", models.BigIntegerField(db_index=True)),
                ("name", models.BinaryField()),
                ("text", models.BinaryField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Key",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "topic", "name", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("topic", models.CharField(max_length=32)),
                ("name", models.CharField(max_length=32)),
                ("value", models.BigIntegerField()),
                ("time", models.BigIntegerField(db_index=True)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Outbox",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("time", models.BigIntegerField()),
                ("topics", models.BinaryField()),
                ("name", models.BinaryField()),
                ("text", models.BinaryField()),
                ("made", models.CharField(max_length=32, null=True)),
                ("key", models.CharField(max_length=32, null=True)),
                ("version", models.BigIntegerField(null=True)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Topic",
            fields=[
                ("key", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("name", models.TextField()),
                ("offset", models.BigIntegerField()),
                ("tag", models.BigIntegerField()),
                ("previous", models.BigIntegerField()),
                ("time", models.BigIntegerField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
    ]

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tests_app", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Essay",
            fields=[
                (
                    "article_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="tests_app.article",
                    ),
                ),
                ("pages", models.IntegerField(default=1)),
            ],
            bases=("tests_app.article",),
        ),
        migrations.AddField(
            model_name="room",
            name="neighbours",
            field=models.ManyToManyField(to="tests_app.room"),
        ),
    ]

"""The scenes, in the order of the start page: each a module with its views and senders, and a template."""

from testproject.demo.scenes import break_it, feed, job, machine, news, prices, scores, words

SCENES = tuple(module.SCENE for module in (prices, news, scores, feed, machine, job, words, break_it))

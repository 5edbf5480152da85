"""The table: a row is one fault, and how it is injected at one point."""
import random

ROWS = []


class Row:
    """points: injections in a full run; quick: in the quick one. needs: options of nwm-merger it is about."""

    def __init__(self, function, name, fault, how, holds, points, quick, needs, group):
        self.function, self.name, self.fault, self.how, self.holds = function, name, fault, how, holds
        self.points, self.quick, self.needs, self.group = points, quick, needs, group


def row(name, fault, how, holds, points, quick=0, needs=()):
    """Registers a function (scene, point) that injects once and returns how that ended, in a word or two. A function may
    return a dictionary instead, {word: count}, when it injected several times."""
    def register(function):
        ROWS.append(Row(function, name, fault, how, holds, points, quick, needs, function.__module__))
        return function
    return register


class Point:
    """Which injection of its row this is: number i of n, a place in 0…1, and chance that can be had again by the seed."""

    def __init__(self, seed, name, i, n, attempt=0):
        self.i, self.n = i, n
        self.random = random.Random(f"{seed}/{name}/{i}/{attempt}")
        self.place = (i + self.random.random()) / n * 0.6**attempt  # sooner, if the program was faster the last time

    def choose(self, options):
        """In turn, so that each has its share."""
        return options[self.i % len(options)]

    def of(self, count):
        """A number from 1 to count, spread evenly over the points."""
        return min(count, 1 + int(self.place * count))


class Skip(Exception):
    """This machine cannot do it; says why."""


class Missed(Exception):
    """The program was faster: nothing was injected."""

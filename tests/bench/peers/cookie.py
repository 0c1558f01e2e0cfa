"""A check written with nagiosplugin that keeps its last status in a cookie."""

import os

import nagiosplugin


class Dummy(nagiosplugin.Resource):  # type: ignore[misc]
    """A check that is always well."""

    def probe(self) -> list[object]:
        """Look at the last status, and keep this one."""
        with nagiosplugin.Cookie(os.environ["STATE"]) as cookie:
            cookie["status"] = 0
        return [nagiosplugin.Metric("dummy", 0)]


nagiosplugin.Check(Dummy(), nagiosplugin.ScalarContext("dummy", "1", "2")).main()

"""What the engine counts, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1800)


class Metrics:
    """One object per process; labels are names from the configuration and states, never ids."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rings = Counter(
            "ringback_rings",
            "Rings received",
            ("channel", "outcome"),
            registry=self.registry,
        )
        self.refused = Counter(
            "ringback_refused",
            "Rings refused",
            ("channel", "reason"),
            registry=self.registry,
        )
        self.turns = Counter("ringback_turns", "Turns settled", ("state",), registry=self.registry)
        self.turn_seconds = Histogram(
            "ringback_turn_seconds",
            "Busy time of turns",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.first_event_seconds = Histogram(
            "ringback_wait_seconds",
            "From acceptance of a turn to its start",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.running = Gauge(
            "ringback_turns_running",
            "Turns this process works on",
            registry=self.registry,
        )
        self.rescued = Counter(
            "ringback_rescued",
            "Turns and deliveries taken over",
            ("kind",),
            registry=self.registry,
        )
        self.fenced = Counter(
            "ringback_fenced",
            "Writes refused to an outdated holder",
            registry=self.registry,
        )
        self.retries = Counter(
            "ringback_provider_retries",
            "Provider calls made again",
            registry=self.registry,
        )
        self.deliveries = Counter(
            "ringback_deliveries",
            "Deliveries settled",
            ("channel", "state"),
            registry=self.registry,
        )
        self.lateness_seconds = Histogram(
            "ringback_task_lateness_seconds",
            "From the due instant of an occurrence to its turn",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.skipped = Counter(
            "ringback_occurrences_skipped",
            "Occurrences skipped",
            ("task",),
            registry=self.registry,
        )

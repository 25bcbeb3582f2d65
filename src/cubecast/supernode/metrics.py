"""Prometheus metrics, computed from the directory at each request."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cubecast.engine.protocol.records import SubscriptionRecord
from cubecast.overlay.cube import label_count
from cubecast.supernode.service import Service

STATES = ("searching", "receiving", "refused", "ended")
"""The states of a subscription; see SubscriptionRecord."""


def directory_metrics(service: Service) -> bytes:
    """Sums without names: hosts, labels, channels, connections, subscriptions by state, seconds of contracts kept and violated."""
    return _text(_Sums(service))


def subscription_metrics(subscriptions: tuple[SubscriptionRecord, ...]) -> bytes:
    """Bound, promised delay and seconds kept and violated of each of these subscriptions."""
    return _text(_Subscriptions(subscriptions))


def _text(collector: Collector) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


class _Sums(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> list[Metric]:
        """Sums over the whole overlay."""
        engine, connections = self._service.engine, self._service.connections
        plain = {
            "cubecast_hosts": ("Hosts in the overlay", len(engine.members)),
            "cubecast_labels": ("Labels of the cube", label_count(engine.cube)),
            "cubecast_channels": ("Channels announced", len(engine.channels)),
            "cubecast_connections": ("Open connections to the super-node", len(connections)),
            "cubecast_connections_kept": ("Those of them over which a valid token has come", connections.kept),
            "cubecast_connections_cut": ("Connections cut for others, or refused, since the start", connections.cut),
        }
        metrics: list[Metric] = [GaugeMetricFamily(n, text, value=v) for n, (text, v) in plain.items()]
        by_state = GaugeMetricFamily("cubecast_subscriptions", "Subscriptions by state", labels=["state"])
        records = engine.subscriptions()
        for state in STATES:
            by_state.add_metric([state], sum(record.state == state for record in records))
        seconds = GaugeMetricFamily(
            "cubecast_contract_seconds", "Seconds of stream, over all subscriptions there are now", labels=["verdict"]
        )
        seconds.add_metric(["kept"], sum(record.compliance.kept_s for record in records))
        seconds.add_metric(["violated"], sum(record.compliance.violated_s for record in records))
        return [*metrics, by_state, seconds]


class _Subscriptions(Collector):
    def __init__(self, subscriptions: tuple[SubscriptionRecord, ...]) -> None:
        self._subscriptions = subscriptions

    def collect(self) -> list[Metric]:
        """Per subscription: the bound, the promised delay, and the seconds kept and violated, by term."""
        labels = ["channel", "subscriber"]
        bound = GaugeMetricFamily("cubecast_subscription_bound_seconds", "Bound on delay", labels=labels)
        promise = GaugeMetricFamily("cubecast_subscription_promise_seconds", "Delay promised", labels=labels)
        verdicts = GaugeMetricFamily(
            "cubecast_subscription_contract_seconds",
            "Seconds of stream: kept, violated, and of the violated ones those that were late, lost, slow",
            labels=[*labels, "verdict"],
        )
        for record in self._subscriptions:
            names, compliance = [record.channel, record.subscriber], record.compliance
            bound.add_metric(names, record.bound_ms / 1000)
            if record.promised_ms is not None:
                promise.add_metric(names, record.promised_ms / 1000)
            seconds = {
                "kept": compliance.kept_s,
                "violated": compliance.violated_s,
                "late": compliance.late_s,
                "lost": compliance.lost_s,
                "slow": compliance.slow_s,
            }
            for verdict, count in seconds.items():
                verdicts.add_metric([*names, verdict], count)
        return [bound, promise, verdicts]

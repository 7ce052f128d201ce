"""A client that moves to another local address: `QuicConnection.rebound` (RFC 9000 §9)."""

from __future__ import annotations

from sim.world import World


def test_a_client_starts_anew_on_another_path() -> None:
    world = World(1)
    client, server = world.establish()
    world.transfer(client, server, 100_000)
    world.run(limit=1.0)
    connection = client.connection
    paths = connection._parts.paths
    old = paths.active
    assert connection.obstacle_to_migration() == ""
    connection.rebound(world.now)
    new = paths.active
    assert new is not old
    assert paths.known == [new]  # the old one is not reached any more
    assert (new.remote, new.local) == (old.remote, None)
    assert new.peer_cid != old.peer_cid  # nobody can link the two (RFC 9000 §9.5)
    assert new.rtt is not old.rtt  # RFC 9000 §9.4
    assert new.congestion is not old.congestion
    client.connection.send_ping(1)
    world.run(limit=1.0)
    assert new.challenges == []  # PATH_RESPONSE came
    assert new.rtt.has_sample
    assert old.peer_cid not in server.connection._parts.connection_ids.local_cids()  # retired
    world.transfer(client, server, 50_000)
    assert connection.close_reason is None


def test_again_and_again_without_running_out_of_connection_ids() -> None:
    world = World(2)
    client, server = world.establish()
    world.run(limit=0.5)
    used = set()
    for number in range(12):
        client.connection.rebound(world.now)
        used.add(client.connection._parts.paths.active.peer_cid)
        client.connection.send_ping(number)
        world.run(limit=0.5)
    assert len(used) == 12
    assert client.connection.close_reason is None
    assert server.connection.close_reason is None


def test_without_a_spare_id_it_goes_on_with_the_one_it_has() -> None:
    world = World(3)
    client, server = world.establish()
    world.run(limit=0.5)
    paths = client.connection._parts.paths
    used = set()
    while client.connection.obstacle_to_migration() == "":  # nothing arrives meanwhile
        client.connection.rebound(world.now)
        used.add(paths.active.peer_cid)
    assert "no unused connection ID" in client.connection.obstacle_to_migration()
    client.connection.rebound(world.now)
    assert paths.active.peer_cid in used
    world.transfer(client, server, 20_000)


def test_who_may_not_migrate_says_why() -> None:
    world = World(4)
    client, server = world.establish()
    world.run(limit=0.5)
    assert "only clients migrate" in server.connection.obstacle_to_migration()
    client.connection._parts.paths.peer_disables_migration = True
    assert "the server forbids it" in client.connection.obstacle_to_migration()


def test_before_the_handshake_is_confirmed_nothing_is_known_of_paths() -> None:
    world = World(5)
    connection = world.connect().connection
    assert "not confirmed" in connection.obstacle_to_migration()
    first = connection._parts.paths.active
    first.local = "192.0.2.9"
    connection.rebound(world.now)
    assert connection._parts.paths.active is first
    assert first.local is None


def test_a_server_or_what_is_closing_takes_no_notice() -> None:
    world = World(6)
    client, server = world.establish()
    path = server.connection._parts.paths.active
    server.connection.rebound(world.now)
    assert server.connection._parts.paths.active is path
    active = client.connection._parts.paths.active
    client.connection.close()
    client.connection.rebound(world.now)
    assert client.connection._parts.paths.active is active

//! What the model must say whatever was measured.

use super::*;

fn inputs() -> Inputs {
    serde_json::from_str(include_str!("../../../docs/scale.json")).expect("docs/scale.json is read")
}

#[test]
fn more_sessions_take_no_less_of_anything() {
    let inputs = inputs();
    let demands = [1e3, 1e4, 1e5, 1e6].map(|sessions| inputs.demand(sessions));
    for pair in demands.windows(2) {
        assert!(pair[0].nodes <= pair[1].nodes);
        assert!(pair[0].redis_shards <= pair[1].redis_shards);
        assert!(pair[0].bridge_queues <= pair[1].bridge_queues);
        assert!(pair[0].primaries <= pair[1].primaries);
        for (less, more) in pair[0].pressure.iter().zip(&pair[1].pressure) {
            assert!(less.1 <= more.1, "{}", less.0);
        }
    }
}

#[test]
fn people_are_spread_over_nodes_as_chance_has_it() {
    assert!((Inputs::spread(3.0, 1.0) - 1.0).abs() < 1e-9);
    assert!((Inputs::spread(1.0, 10.0) - 1.0).abs() < 1e-9);
    assert!((Inputs::spread(2.0, 2.0) - 1.5).abs() < 1e-9);
    assert!(Inputs::spread(1e6, 10.0) > 9.99);
}

#[test]
fn a_node_more_than_needed_is_there() {
    let mut inputs = inputs();
    inputs.machines.hub_descriptors = 1000.0;
    inputs.machines.utilisation_percent = 100.0;
    let demand = inputs.demand(10_000.0);
    assert_eq!(demand.nodes_by, "file descriptors");
    assert!((demand.nodes - 11.0).abs() < 1e-9);
}

#[test]
fn no_fewer_nodes_would_do() {
    let inputs = inputs();
    for sessions in [1e4, 1e5, 3e5, 1e6] {
        let nodes = inputs.demand(sessions).nodes;
        assert!(inputs.demand_on(sessions, nodes).nodes <= nodes);
        if nodes > 2.0 {
            assert!(inputs.demand_on(sessions, nodes - 1.0).nodes > nodes - 1.0);
        }
    }
}

#[test]
fn one_active_consumer_is_a_limit_that_cores_do_not_lift() {
    let mut inputs = inputs();
    inputs.units.bridge_per_second = 1000.0;
    inputs.machines.rabbit_cores = 1e6;
    inputs.machines.utilisation_percent = 50.0;
    inputs.load.events_per_second = 0.01;
    assert!((inputs.demand(1e6).bridge_queues - 20.0).abs() < 1e-9);
}

#[test]
fn ids_of_events_fill_redis_for_as_long_as_they_are_remembered() {
    let mut inputs = inputs();
    inputs.units.publish_redis_bytes = 100.0;
    inputs.units.event_redis_bytes = 200.0;
    inputs.load.history_seconds = 0.0;
    inputs.load.events_per_second = 1.0;
    inputs.load.dedup_seconds = f64::from(1 << 20);
    let gib = inputs.demand(1024.0).redis_gib;
    assert!((gib - 100.0).abs() < 1e-6, "{gib}");
}

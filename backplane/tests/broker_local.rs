//! The broker contract on the embedded broker.

use std::sync::Arc;
use std::time::Duration;

use backplane::broker::contract::{RETENTION, Recorder, Subject, retentions};
use backplane::broker::local::{LocalBroker, Retention};
use backplane::broker::{Broker, Publish};
use protocol::ChannelName;

async fn local() -> Subject {
    let recorder = Arc::new(Recorder::default());
    Subject {
        broker: Arc::new(LocalBroker::new(recorder.clone(), retentions())),
        recorder,
        keep: Box::new(()),
    }
}

backplane::broker_contract!(local);

#[tokio::test]
async fn an_unused_channel_is_dropped_and_comes_back_with_another_epoch() {
    let retention = Retention {
        age: Duration::ZERO,
        ..RETENTION
    };
    let broker = LocalBroker::new(Arc::new(Recorder::default()), retention);
    let channel = ChannelName::Project("p".into());
    broker.subscribe(&channel).await.unwrap();
    broker.publish(&channel, Publish::default()).await.unwrap();
    let before = broker.position(&channel).await.unwrap();
    broker.sweep();
    assert_eq!(
        broker.position(&channel).await.unwrap(),
        before,
        "somebody is subscribed"
    );
    broker.unsubscribe(&channel);
    assert_eq!(broker.channels(), 0);
    let after = broker.position(&channel).await.unwrap();
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(after.offset, 0);
}

#[tokio::test]
async fn all_channels_together_retain_no_more_than_their_bound() {
    let retention = Retention {
        total_bytes: 10_000,
        ..RETENTION
    };
    let broker = LocalBroker::new(Arc::new(Recorder::default()), retention);
    let message = || Publish {
        data: Some(serde_json::json!("x".repeat(1000))),
        ..Publish::default()
    };
    let channel = |n: usize| ChannelName::Project(format!("p{n}").into());
    let mut retained = 0;
    for n in 0..20 {
        broker.publish(&channel(n), message()).await.unwrap();
    }
    for n in 0..20 {
        let page = broker.history(&channel(n), None, 10).await.unwrap();
        assert_eq!(
            page.newest.offset, 1,
            "what is not retained was still taken"
        );
        retained += page.messages.len();
    }
    assert!((1..=9).contains(&retained), "{retained} messages retained");
}

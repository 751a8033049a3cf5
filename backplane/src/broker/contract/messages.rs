//! What a broker guarantees of messages.

use std::time::Duration;

use protocol::frame::ResetReason;
use protocol::{Blob, ChannelName, DeliveryClass, Position};
use serde_json::json;

use super::{Subject, numbers, publish, room, text, until};
use crate::broker::{BrokerError, Publish};

/// Offsets are gapless from 1, and deliveries come in their order.
pub async fn offsets_are_gapless_and_ordered(subject: Subject) {
    let channel = room("order");
    subject.broker.subscribe(&channel).await.unwrap();
    for n in 1..=50 {
        let published = publish(&subject, &channel, text(n)).await;
        assert_eq!(published.position.offset, n);
        assert!(!published.duplicate);
    }
    until("50 deliveries", || {
        subject.recorder.messages(&channel).len() == 50
    })
    .await;
    let delivered = subject.recorder.messages(&channel);
    assert_eq!(numbers(&delivered), (1..=50).collect::<Vec<_>>());
    assert!(
        delivered
            .iter()
            .zip(1..)
            .all(|(message, offset)| message.offset == offset)
    );
}

/// Concurrent publishers get distinct, gapless offsets; delivery agrees with them.
pub async fn concurrent_publishers_share_one_order(subject: Subject) {
    let channel = room("concurrent");
    subject.broker.subscribe(&channel).await.unwrap();
    let publishers = (0..8).map(|publisher| {
        let (broker, channel) = (&subject.broker, &channel);
        async move {
            for n in 0..10 {
                broker
                    .publish(channel, text(publisher * 100 + n))
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let mut publishers: Vec<_> = publishers.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        publishers.retain_mut(|publisher| publisher.as_mut().poll(cx).is_pending());
        if publishers.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    until("80 deliveries", || {
        subject.recorder.messages(&channel).len() == 80
    })
    .await;
    let offsets: Vec<u64> = subject
        .recorder
        .messages(&channel)
        .iter()
        .map(|m| m.offset)
        .collect();
    assert_eq!(offsets, (1..=80).collect::<Vec<_>>());
}

/// History after a position is everything since, page by page, once.
pub async fn history_pages_are_complete(subject: Subject) {
    let channel = room("history");
    for n in 1..=25 {
        publish(&subject, &channel, text(n)).await;
    }
    let newest = subject.broker.position(&channel).await.unwrap();
    assert_eq!(newest.offset, 25);
    let mut since = Position {
        epoch: newest.epoch.clone(),
        offset: 5,
    };
    let mut seen = Vec::new();
    loop {
        let page = subject
            .broker
            .history(&channel, Some(&since), 7)
            .await
            .unwrap();
        assert_eq!(page.reset, None);
        assert_eq!(page.newest, newest);
        seen.extend(numbers(&page.messages));
        since.offset = page.messages.last().unwrap().offset;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, (6..=25).collect::<Vec<_>>());
    let all = subject.broker.history(&channel, None, 1000).await.unwrap();
    assert_eq!(all.messages.len(), 25);
    let none = subject
        .broker
        .history(&channel, Some(&newest), 10)
        .await
        .unwrap();
    assert!(none.messages.is_empty() && !none.more && none.reset.is_none());
}

/// A position that can't be gone on from is told, with the reason.
pub async fn a_lost_position_is_reset(subject: Subject) {
    let channel = room("reset");
    for n in 1..=150 {
        publish(&subject, &channel, text(n)).await;
    }
    let newest = subject.broker.position(&channel).await.unwrap();
    let ask = |epoch: &str, offset| Position {
        epoch: epoch.to_owned(),
        offset,
    };
    for (position, reason) in [
        (ask(&newest.epoch, 10), ResetReason::Expired),
        (ask(&newest.epoch, 151), ResetReason::Ahead),
        (ask("another", 150), ResetReason::Epoch),
    ] {
        let page = subject
            .broker
            .history(&channel, Some(&position), 10)
            .await
            .unwrap();
        assert_eq!(page.reset, Some(reason));
        assert!(page.messages.is_empty());
    }
    let oldest = ask(&newest.epoch, 50);
    let page = subject
        .broker
        .history(&channel, Some(&oldest), 1000)
        .await
        .unwrap();
    assert_eq!(page.reset, None);
    assert_eq!(numbers(&page.messages), (51..=150).collect::<Vec<_>>());
}

/// A namespace may keep less than the others.
pub async fn a_namespace_has_its_own_retention(subject: Subject) {
    let plan = ChannelName::Plan("p".into());
    for n in 1..=5 {
        publish(&subject, &plan, text(n)).await;
    }
    let page = subject.broker.history(&plan, None, 10).await.unwrap();
    assert_eq!(numbers(&page.messages), [3, 4, 5]);
    assert_eq!(page.newest.offset, 5);
}

/// A second message with a used key is not taken; its answer names the first one's place.
pub async fn an_idempotency_key_takes_effect_once(subject: Subject) {
    let channel = room("idempotent");
    subject.broker.subscribe(&channel).await.unwrap();
    let keyed = |n| Publish {
        idempotency_key: Some("key".into()),
        ..text(n)
    };
    let first = publish(&subject, &channel, keyed(1)).await;
    publish(&subject, &channel, text(2)).await;
    let again = publish(&subject, &channel, keyed(1)).await;
    assert!(again.duplicate);
    assert_eq!(again.position, first.position);
    assert_eq!(subject.broker.position(&channel).await.unwrap().offset, 2);
    until("2 deliveries", || {
        subject.recorder.messages(&channel).len() == 2
    })
    .await;
}

/// Class `latest` takes no offset; its newest value per key is kept, and versions rise.
pub async fn latest_values_are_kept_per_key(subject: Subject) {
    let channel = room("latest");
    for n in 1..=5 {
        let key = if n % 2 == 0 { "even" } else { "odd" };
        let message = Publish {
            class: DeliveryClass::Latest,
            key: Some(key.into()),
            ..text(n)
        };
        let published = publish(&subject, &channel, message).await;
        assert_eq!(published.position.offset, 0);
    }
    let values = subject.broker.latest(&channel).await.unwrap();
    assert_eq!(numbers(&values), [4, 5]);
    assert!(values[0].version < values[1].version);
    let keyless = Publish {
        class: DeliveryClass::Latest,
        ..text(6)
    };
    assert_eq!(
        subject.broker.publish(&channel, keyless).await,
        Err(BrokerError::NoKey)
    );
}

/// Class `lossy` is delivered, and kept nowhere.
pub async fn lossy_messages_leave_no_trace(subject: Subject) {
    let channel = room("lossy");
    subject.broker.subscribe(&channel).await.unwrap();
    let message = Publish {
        class: DeliveryClass::Lossy,
        ..text(1)
    };
    publish(&subject, &channel, message).await;
    until("a delivery", || {
        subject.recorder.messages(&channel).len() == 1
    })
    .await;
    let page = subject.broker.history(&channel, None, 10).await.unwrap();
    assert!(page.messages.is_empty());
    assert_eq!(page.newest.offset, 0);
}

/// Channels don't see each other.
pub async fn channels_are_apart(subject: Subject) {
    let (one, other) = (room("one"), room("other"));
    publish(&subject, &one, text(1)).await;
    assert_eq!(subject.broker.position(&other).await.unwrap().offset, 0);
    assert!(
        subject
            .broker
            .history(&other, None, 10)
            .await
            .unwrap()
            .messages
            .is_empty()
    );
    assert!(subject.broker.members(&other, 10).await.unwrap().is_empty());
}

/// A message may name another dedup window than the broker's; afterwards its key is free.
pub async fn a_dedup_window_holds_for_its_key(subject: Subject) {
    let channel = room("window");
    let keyed = |key: &str, dedup| Publish {
        idempotency_key: Some(key.into()),
        dedup,
        ..text(1)
    };
    let window = Some(Duration::from_millis(100));
    let short = publish(&subject, &channel, keyed("short", window)).await;
    let long = publish(&subject, &channel, keyed("long", None)).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let again = publish(&subject, &channel, keyed("short", window)).await;
    assert!(!again.duplicate);
    assert_eq!((short.position.offset, again.position.offset), (1, 3));
    let again = publish(&subject, &channel, keyed("long", None)).await;
    assert!(again.duplicate);
    assert_eq!(again.position, long.position);
}

/// On a subscribed node, what history or a position shows has been delivered before.
pub async fn history_shown_is_delivered(subject: Subject) {
    let channel = room("shown");
    subject.broker.subscribe(&channel).await.unwrap();
    let publisher = async {
        for n in 1..=200 {
            publish(&subject, &channel, text(n)).await;
        }
    };
    let reader = async {
        let mut newest = 0;
        while newest < 200 {
            let position = subject.broker.position(&channel).await.unwrap();
            let delivered = subject.recorder.messages(&channel).len() as u64;
            assert!(delivered >= position.offset);
            let page = subject.broker.history(&channel, None, 3).await.unwrap();
            let delivered = subject.recorder.messages(&channel).len() as u64;
            newest = page.newest.offset;
            assert!(delivered >= newest);
        }
    };
    tokio::join!(publisher, reader);
}

/// A channel is delivered once however often it is subscribed to, until the last subscription ends.
pub async fn subscriptions_are_counted(subject: Subject) {
    let channel = room("counted");
    let (one, two) = tokio::join!(
        subject.broker.subscribe(&channel),
        subject.broker.subscribe(&channel)
    );
    one.and(two).unwrap();
    publish(&subject, &channel, text(1)).await;
    subject.broker.unsubscribe(&channel);
    publish(&subject, &channel, text(2)).await;
    until("2 deliveries", || {
        subject.recorder.messages(&channel).len() == 2
    })
    .await;
    subject.broker.unsubscribe(&channel);
    subject.broker.subscribe(&channel).await.unwrap();
    publish(&subject, &channel, text(3)).await;
    until("a third delivery", || {
        subject.recorder.messages(&channel).len() == 3
    })
    .await;
    assert_eq!(numbers(&subject.recorder.messages(&channel)), [1, 2, 3]);
}

/// Whatever a message carries is the same when it is delivered and when it is read.
pub async fn payloads_come_as_they_were_sent(subject: Subject) {
    let channel = room("payloads");
    subject.broker.subscribe(&channel).await.unwrap();
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads = [
        (None, Some(every_byte)),
        (None, Some(Vec::new())),
        (None, None),
        (Some(json!(null)), None),
        (
            Some(json!({ "": [1, -1, u64::MAX, i64::MIN, 0.1, 1e300, true], "\u{1F600}\n\0": {} })),
            None,
        ),
    ];
    let sent = payloads.map(|(data, bytes)| Publish {
        data,
        bytes: bytes.map(Blob::from),
        event: Some("event".into()),
        from: Some("user".into()),
        ..Publish::default()
    });
    for message in &sent {
        publish(&subject, &channel, message.clone()).await;
    }
    let read = subject.broker.history(&channel, None, 100).await.unwrap();
    assert_eq!(read.messages, subject.recorder.messages(&channel));
    for (message, sent) in read.messages.iter().zip(&sent) {
        assert_eq!((&message.data, &message.bytes), (&sent.data, &sent.bytes));
        assert_eq!((&message.event, &message.from), (&sent.event, &sent.from));
    }
    assert_eq!(read.messages.len(), sent.len());
}

//! Arbitrary frames.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use protocol::channel::{DeliveryClass, Position};
use protocol::frame::{ClientDocOp, HistoryMessage, Limits, Member, ResetReason, ServerDocOp};
use protocol::{Blob, ClientFrame, ErrorCode, ServerFrame};
use serde_json::Value;

/// Any JSON value but null: an optional field can't tell null from absent. Floats are left out, as
/// reading them back exactly is a matter of the JSON library's.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(".{0,6}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn blob() -> impl Strategy<Value = Blob> {
    any::<Vec<u8>>().prop_map(Blob::from)
}

fn position() -> impl Strategy<Value = Position> {
    (".*", any::<u64>()).prop_map(|(epoch, offset)| Position { epoch, offset })
}

fn reset() -> impl Strategy<Value = ResetReason> {
    prop_oneof![
        Just(ResetReason::Epoch),
        Just(ResetReason::Expired),
        Just(ResetReason::Ahead)
    ]
}

fn class() -> impl Strategy<Value = DeliveryClass> {
    prop_oneof![
        Just(DeliveryClass::Reliable),
        Just(DeliveryClass::Latest),
        Just(DeliveryClass::Lossy)
    ]
}

fn client_doc_op() -> impl Strategy<Value = ClientDocOp> {
    use ClientDocOp as Op;
    prop_oneof![
        Just(Op::Open),
        Just(Op::Close),
        Just(Op::Sync),
        Just(Op::Update),
        Just(Op::Awareness)
    ]
}

fn server_doc_op() -> impl Strategy<Value = ServerDocOp> {
    use ServerDocOp as Op;
    let ops = vec![
        Op::Opened,
        Op::Closed,
        Op::Sync,
        Op::Update,
        Op::Awareness,
        Op::Durable,
        Op::Denied,
        Op::Rights,
    ];
    prop::sample::select(ops)
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of(".*")
}

pub(super) fn client_frame() -> impl Strategy<Value = ClientFrame> {
    use ClientFrame as F;
    let id = any::<u32>();
    prop_oneof![
        (id, text(), btree_map(".*", position(), 0..3))
            .prop_map(|(id, token, resume)| F::Connect { id, token, resume }),
        (id, ".*", option::of(position()), any::<bool>()).prop_map(
            |(id, channel, position, presence)| F::Subscribe {
                id,
                channel,
                position,
                presence
            }
        ),
        (id, ".*").prop_map(|(id, channel)| F::Unsubscribe { id, channel }),
        (
            id,
            ".*",
            option::of(value()),
            option::of(blob()),
            option::of(class()),
            text(),
            text()
        )
            .prop_map(|(id, channel, data, bytes, class, key, idempotency_key)| {
                F::Publish {
                    id,
                    channel,
                    data,
                    bytes,
                    class,
                    key,
                    idempotency_key,
                }
            }),
        (id, ".*").prop_map(|(id, channel)| F::Presence { id, channel }),
        (id, ".*", prop_oneof![Just(Value::Null), value()])
            .prop_map(|(id, channel, data)| F::State { id, channel, data }),
        (id, ".*", option::of(position()), option::of(any::<u32>())).prop_map(
            |(id, channel, since, limit)| F::History {
                id,
                channel,
                since,
                limit
            }
        ),
        (option::of(id), ".*", client_doc_op(), option::of(blob()))
            .prop_map(|(id, doc, op, data)| F::Doc { id, doc, op, data }),
        (id, ".*").prop_map(|(id, token)| F::Refresh { id, token }),
        id.prop_map(|id| F::Ping { id }),
    ]
}

fn member() -> impl Strategy<Value = Member> {
    (".*", ".*", ".*", option::of(value())).prop_map(|(session, user, name, state)| Member {
        session,
        user,
        name,
        state,
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(message_bytes, channels, documents, history_page)| Limits {
            message_bytes,
            channels,
            documents,
            history_page,
        },
    )
}

fn history_message() -> impl Strategy<Value = HistoryMessage> {
    (
        any::<u64>(),
        option::of(value()),
        option::of(blob()),
        text(),
        text(),
        any::<u64>(),
    )
        .prop_map(|(offset, data, bytes, event, from, time)| HistoryMessage {
            offset,
            data,
            bytes,
            event,
            from,
            time,
        })
}

pub(super) fn reply() -> impl Strategy<Value = ServerFrame> {
    use ServerFrame as F;
    let id = any::<u32>();
    prop_oneof![
        (
            (id, ".*", ".*", ".*", ".*"),
            limits(),
            any::<(u64, u64, u64)>()
        )
            .prop_map(
                |((id, session, user, name, node), limits, (ping_ms, time, expires))| {
                    F::Connected {
                        id,
                        session,
                        user,
                        name,
                        node,
                        limits,
                        ping_ms,
                        time,
                        expires,
                    }
                }
            ),
        (
            id,
            ".*",
            ".*",
            any::<u64>(),
            any::<bool>(),
            option::of(reset()),
            option::of(vec(member(), 0..3))
        )
            .prop_map(|(id, channel, epoch, offset, recovered, reset, members)| {
                F::Subscribed {
                    id,
                    channel,
                    epoch,
                    offset,
                    recovered,
                    reset,
                    members,
                }
            }),
        (
            id,
            option::of(position()),
            any::<bool>(),
            option::of(any::<u64>())
        )
            .prop_map(|(id, position, duplicate, expires)| F::Ack {
                id,
                position,
                duplicate,
                expires
            }),
        (
            option::of(id),
            prop::sample::select(ErrorCode::ALL),
            ".*",
            option::of(any::<u64>())
        )
            .prop_map(|(id, code, message, retry_after_ms)| F::Error {
                id,
                code,
                message,
                retry_after_ms
            }),
        (
            id,
            ".*",
            ".*",
            any::<u64>(),
            vec(history_message(), 0..3),
            any::<bool>()
        )
            .prop_map(|(id, channel, epoch, offset, messages, more)| F::History {
                id,
                channel,
                epoch,
                offset,
                messages,
                more,
            }),
        (id, any::<u64>()).prop_map(|(id, time)| F::Pong { id, time }),
    ]
}

pub(super) fn push() -> impl Strategy<Value = ServerFrame> {
    use ServerFrame as F;
    let number = || option::of(any::<u64>());
    prop_oneof![
        (
            (".*", number(), option::of(value()), option::of(blob())),
            (text(), number(), text(), text()),
            any::<u64>()
        )
            .prop_map(
                |((channel, offset, data, bytes), (key, version, event, from), time)| F::Message {
                    channel,
                    offset,
                    data,
                    bytes,
                    key,
                    version,
                    event,
                    from,
                    time,
                }
            ),
        (
            option::of(any::<u32>()),
            ".*",
            vec(member(), 0..3),
            vec(".*", 0..3)
        )
            .prop_map(|(id, channel, joined, left)| F::Presence {
                id,
                channel,
                joined,
                left
            }),
        (
            (option::of(any::<u32>()), ".*", server_doc_op()),
            (option::of(blob()), number()),
            (text(), option::of(any::<bool>()), text())
        )
            .prop_map(
                |((id, doc, op), (data, n), (document, writable, reason))| F::Doc {
                    id,
                    doc,
                    op,
                    data,
                    n,
                    document,
                    writable,
                    reason,
                }
            ),
        any::<u64>().prop_map(|in_ms| F::Expiring { in_ms }),
        (".*", reset(), position()).prop_map(|(channel, reason, position)| F::Reset {
            channel,
            reason,
            position
        }),
        (any::<u64>(), ".*").prop_map(|(after_ms, reason)| F::Reconnect { after_ms, reason }),
        (text(), ".*").prop_map(|(channel, reason)| F::Revoked { channel, reason }),
    ]
}

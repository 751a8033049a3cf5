//! `tandem.ts`: the types of frames and events, and the two code tables.

use std::fmt::Write as _;

use ts_rs::{Config, TS};

use crate::channel::{DeliveryClass, Position};
use crate::event::kind;
use crate::frame::{
    ClientDocOp, HistoryMessage, Limits, Member, ResetReason, SUBPROTOCOL_BEARER, SUBPROTOCOL_JSON,
    SUBPROTOCOL_MSGPACK, ServerDocOp,
};
use crate::{ClientFrame, CloseCode, ErrorCode, Event, Role, ServerFrame};

/// The whole file.
pub(super) fn text() -> String {
    // Offsets, clocks and times stay below 2^53, so a number holds them.
    let config = Config::new().with_large_int("number");
    let mut out = String::from(
        "// The wire types of Tandem, generated from the Rust types by\n\
         // `cargo run -p protocol --bin schema`. Do not edit.\n",
    );
    declare::<ClientFrame>(&mut out, &config);
    declare::<ClientDocOp>(&mut out, &config);
    declare::<ServerFrame>(&mut out, &config);
    declare::<ServerDocOp>(&mut out, &config);
    declare::<ResetReason>(&mut out, &config);
    declare::<Position>(&mut out, &config);
    declare::<DeliveryClass>(&mut out, &config);
    declare::<Member>(&mut out, &config);
    declare::<HistoryMessage>(&mut out, &config);
    declare::<Limits>(&mut out, &config);
    declare::<ErrorCode>(&mut out, &config);
    declare::<Role>(&mut out, &config);
    declare::<Event>(&mut out, &config);
    constants(&mut out);
    out
}

fn declare<T: TS>(out: &mut String, config: &Config) {
    out.push('\n');
    if let Some(docs) = T::docs() {
        out.push_str(&docs);
    }
    out.push_str("export ");
    out.push_str(&T::decl(config));
    out.push('\n');
}

/// Writing to a string can't fail, so the results below say nothing.
fn constants(out: &mut String) {
    let _ = write!(
        out,
        "\n/** The subprotocols of `/ws`. */\n\
         export const SUBPROTOCOLS = {{\n  json: \"{SUBPROTOCOL_JSON}\",\n  msgpack: \"{SUBPROTOCOL_MSGPACK}\",\n  bearer: \"{SUBPROTOCOL_BEARER}\",\n}} as const;\n"
    );
    out.push_str("\n/** Every error code: its HTTP status, whether the same request may succeed later, what it means. */\n");
    out.push_str("export const ERROR_CODES = {\n");
    for code in ErrorCode::ALL {
        let _ = writeln!(
            out,
            "  {}: {{ status: {}, temporary: {}, meaning: {:?} }},",
            code.as_str(),
            code.http_status(),
            code.is_temporary(),
            code.meaning()
        );
    }
    out.push_str("} as const satisfies Record<ErrorCode, { status: number; temporary: boolean; meaning: string }>;\n");
    out.push_str(
        "\n/** Every close code: its name, whether to reconnect after it, what it means. */\n",
    );
    out.push_str("export const CLOSE_CODES = {\n");
    for code in CloseCode::ALL {
        let _ = writeln!(
            out,
            "  {}: {{ name: \"{code:?}\", reconnect: {}, meaning: {:?} }},",
            code.code(),
            code.should_reconnect(),
            code.meaning()
        );
    }
    out.push_str("} as const;\n");
    out.push_str("\n/** The types of the hub's own events: what each tells and carries. */\n");
    out.push_str("export const EVENT_TYPES = {\n");
    for (kind, meaning) in kind::ALL {
        let _ = writeln!(out, "  {kind:?}: {meaning:?},");
    }
    out.push_str("} as const;\n");
}

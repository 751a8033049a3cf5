//! Who may do what in a project: one table, role × operation.
//!
//! Owns that table and nothing else. Never reads the store: `Auth::authorize` brings the role.

use protocol::Role;

/// Everything in a project that needs a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// See the project and its members.
    ReadProject,
    /// Add and remove members, change roles.
    ManageMembers,
    /// See, make and revoke the keys of services.
    ManageKeys,
    /// Delete the project with all that is in it.
    DeleteProject,
    /// See which documents there are.
    ListDocuments,
    /// Add a document.
    CreateDocument,
    /// Move a document to another path.
    RenameDocument,
    /// Delete a document.
    DeleteDocument,
    /// Read a document's text.
    ReadDocument,
    /// Change a document's text.
    EditDocument,
    /// Show one's caret and name to the others in a document.
    Awareness,
    /// Read a document's versions.
    ReadVersions,
    /// Name a version, or delete one.
    NameVersion,
    /// Bring a document back to a version.
    RestoreVersion,
    /// Ask for a plan.
    CreatePlan,
    /// Read plans and their steps.
    ReadPlan,
    /// Cancel a plan that another member asked for; one's own takes the right to read it.
    CancelPlan,
    /// Read the log of the project's events.
    ReadEvents,
    /// Read what all members have used in the project.
    ReadUsage,
    /// Read a room.
    SubscribeRoom,
    /// Write to a room.
    PublishRoom,
    /// Follow the project's events.
    SubscribeProject,
    /// Follow a plan of the project.
    SubscribePlan,
    /// Follow the events of a document.
    SubscribeDoc,
    /// See who is in a channel, and be seen.
    Presence,
    /// Read the history of a channel.
    ReadHistory,
}

const Y: bool = true;
const N: bool = false;

/// The table. A role's rights include those of all weaker roles (a test holds it to that).
#[rustfmt::skip]
const TABLE: [(Operation, [bool; 4]); 26] = {
    use Operation::*;
    [
        //                 viewer, commenter, editor, owner
        (ReadProject,      [Y, Y, Y, Y]),
        (ManageMembers,    [N, N, N, Y]),
        (ManageKeys,       [N, N, N, Y]),
        (DeleteProject,    [N, N, N, Y]),
        (ListDocuments,    [Y, Y, Y, Y]),
        (CreateDocument,   [N, N, Y, Y]),
        (RenameDocument,   [N, N, Y, Y]),
        (DeleteDocument,   [N, N, Y, Y]),
        (ReadDocument,     [Y, Y, Y, Y]),
        (EditDocument,     [N, N, Y, Y]),
        (Awareness,        [Y, Y, Y, Y]),
        (ReadVersions,     [Y, Y, Y, Y]),
        (NameVersion,      [N, N, Y, Y]),
        (RestoreVersion,   [N, N, Y, Y]),
        (CreatePlan,       [N, N, Y, Y]),
        (ReadPlan,         [Y, Y, Y, Y]),
        (CancelPlan,       [N, N, Y, Y]),
        (ReadEvents,       [Y, Y, Y, Y]),
        (ReadUsage,        [N, N, N, Y]),
        (SubscribeRoom,    [Y, Y, Y, Y]),
        (PublishRoom,      [N, Y, Y, Y]),
        (SubscribeProject, [Y, Y, Y, Y]),
        (SubscribePlan,    [Y, Y, Y, Y]),
        (SubscribeDoc,     [Y, Y, Y, Y]),
        (Presence,         [Y, Y, Y, Y]),
        (ReadHistory,      [Y, Y, Y, Y]),
    ]
};

/// Whether a member of that role may do that.
#[must_use]
pub fn allows(role: Role, operation: Operation) -> bool {
    let column = match role {
        Role::Viewer => 0,
        Role::Commenter => 1,
        Role::Editor => 2,
        Role::Owner => 3,
    };
    TABLE
        .iter()
        .any(|(row, rights)| *row == operation && rights[column])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn the_whole_matrix() {
        let mut matrix = String::new();
        for (operation, _) in TABLE {
            let _ = write!(matrix, "{operation:?}:");
            for role in Role::ALL
                .into_iter()
                .filter(|role| allows(*role, operation))
            {
                let _ = write!(matrix, " {}", role.as_str());
            }
            matrix.push('\n');
        }
        println!("{matrix}");
        let expected = "\
ReadProject: viewer commenter editor owner
ManageMembers: owner
ManageKeys: owner
DeleteProject: owner
ListDocuments: viewer commenter editor owner
CreateDocument: editor owner
RenameDocument: editor owner
DeleteDocument: editor owner
ReadDocument: viewer commenter editor owner
EditDocument: editor owner
Awareness: viewer commenter editor owner
ReadVersions: viewer commenter editor owner
NameVersion: editor owner
RestoreVersion: editor owner
CreatePlan: editor owner
ReadPlan: viewer commenter editor owner
CancelPlan: editor owner
ReadEvents: viewer commenter editor owner
ReadUsage: owner
SubscribeRoom: viewer commenter editor owner
PublishRoom: commenter editor owner
SubscribeProject: viewer commenter editor owner
SubscribePlan: viewer commenter editor owner
SubscribeDoc: viewer commenter editor owner
Presence: viewer commenter editor owner
ReadHistory: viewer commenter editor owner
";
        assert_eq!(matrix, expected);
    }

    #[test]
    fn each_operation_has_one_row_and_stronger_roles_may_more() {
        let mut seen = std::collections::HashSet::new();
        for (operation, rights) in TABLE {
            assert!(seen.insert(operation), "{operation:?} stands twice");
            assert!(rights.is_sorted(), "{operation:?}: a weaker role may more");
            assert!(rights[3], "{operation:?}: nobody may");
        }
        assert_eq!(
            seen.len(),
            Operation::ReadHistory as usize + 1,
            "an operation has no row"
        );
    }
}

//! What is kept in the cache, as it is written there.
//!
//! Owns these forms alone, apart from the store's own types, so that a field that is added there is not lost here
//! unseen: each form names every field. Whoever changes one raises the number in `keys`.

use backplane::store::{Document, Member, Project, Version, VersionKind};
use protocol::Role;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Something that is kept.
pub(super) trait Kept: Send + 'static {
    /// As it is written.
    type Form: Serialize + DeserializeOwned + Send;

    fn into_form(self) -> Self::Form;
    fn from_form(form: Self::Form) -> Self;
}

macro_rules! kept {
    ($($type:ident as $Form:ident { $($field:ident: $of:ty),* $(,)? })*) => {
        $(
            #[derive(Serialize, Deserialize)]
            pub(super) struct $Form {
                $($field: $of),*
            }

            impl Kept for $type {
                type Form = $Form;

                fn into_form(self) -> $Form {
                    let Self { $($field),* } = self;
                    $Form { $($field: $field.into()),* }
                }

                fn from_form(form: $Form) -> Self {
                    let $Form { $($field),* } = form;
                    Self { $($field: $field.into()),* }
                }
            }
        )*
    };
}

kept! {
    Project as ProjectForm { id: String, name: String, created_at: u64 }
    Member as MemberForm { user_id: String, login: String, name: String, role: Role }
    Document as DocumentForm {
        id: String,
        project_id: String,
        path: String,
        created_at: u64,
        updated_at: u64,
        head: u64,
    }
    Version as VersionForm {
        id: String,
        document_id: String,
        seq: u64,
        kind: VersionKindForm,
        name: String,
        author_id: Option<String>,
        created_at: u64,
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum VersionKindForm {
    Auto,
    Named,
}

impl From<VersionKind> for VersionKindForm {
    fn from(kind: VersionKind) -> Self {
        match kind {
            VersionKind::Auto => Self::Auto,
            VersionKind::Named => Self::Named,
        }
    }
}

impl From<VersionKindForm> for VersionKind {
    fn from(form: VersionKindForm) -> Self {
        match form {
            VersionKindForm::Auto => Self::Auto,
            VersionKindForm::Named => Self::Named,
        }
    }
}

impl Kept for (Project, Role) {
    type Form = (ProjectForm, Role);

    fn into_form(self) -> Self::Form {
        (self.0.into_form(), self.1)
    }

    fn from_form((project, role): Self::Form) -> Self {
        (Project::from_form(project), role)
    }
}

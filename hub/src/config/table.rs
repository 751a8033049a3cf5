//! What makes of one table of settings their types, defaults, reader and documentation, so that none of them can
//! disagree.
//!
//! Owns that alone; the table is in `settings`.

macro_rules! settings {
    (
        top { $($(#[doc = $top_text:literal])+ $top:ident: $top_type:ty = $top_default:expr, $top_rule:expr;)* }
        $($(#[doc = $section_text:literal])+ $section:ident: $Section:ident {
            $($(#[doc = $text:literal])+ $key:ident: $type:ty = $default:expr, $rule:expr;)*
        })*
    ) => {
        /// Every setting. `Settings::default()` is what the hub runs with when nothing is configured;
        /// tests set fields directly.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[doc = $top_text])+
            #[doc = concat!("\n\nDefault `", stringify!($top_default), "`; `", stringify!($top_rule), "`.")]
            pub $top: $top_type,)*
            $($(#[doc = $section_text])+ pub $section: $Section,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($top: $top_default,)* $($section: $Section::default(),)* }
            }
        }

        $(
            $(#[doc = $section_text])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {
                $($(#[doc = $text])+
                #[doc = concat!("\n\nDefault `", stringify!($default), "`; `", stringify!($rule), "`.")]
                pub $key: $type,)*
            }

            impl Default for $Section {
                fn default() -> Self { Self { $($key: $default,)* } }
            }
        )*

        impl Settings {
            pub(super) fn read(reader: &mut Reader<'_>) -> Self {
                Self {
                    $($top: reader.take("", stringify!($top), $top_default, &$top_rule),)*
                    $($section: $Section {
                        $($key: reader.take(stringify!($section), stringify!($key), $default, &$rule),)*
                    },)*
                }
            }

            /// Every setting with its names, default, bounds and meaning, in the order of the table.
            #[must_use]
            pub fn describe() -> Vec<Described> {
                vec![
                    $(Described::new::<$top_type>("", stringify!($top), &$top_default, &$top_rule, concat!($($top_text),+)),)*
                    $($(Described::new::<$type>(stringify!($section), stringify!($key), &$default, &$rule, concat!($($text),+)),)*)*
                ]
            }

            /// The sections with their meaning.
            pub(super) fn sections() -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($section), concat!($($section_text),+))),*]
            }
        }
    };
}

pub(super) use settings;

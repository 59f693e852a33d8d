//! Price documents that are meant to fill the memory or take the time of whoever reads them.

/// What a document is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bomb {
    /// YAML of one entry and millions of aliases of it.
    Aliases,
    /// Millions of empty objects.
    Objects,
    /// Lists in lists, millions deep.
    Lists,
    /// One text of ten mebibytes.
    Text,
}

/// Bytes of a document, just below what is read of any.
const SIZE: usize = (16 << 20) - 64;

impl Bomb {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Aliases, Self::Objects, Self::Lists, Self::Text];

    /// Last part of its path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aliases => "aliases",
            Self::Objects => "objects",
            Self::Lists => "lists",
            Self::Text => "text",
        }
    }

    /// The format that a price book reads it as.
    pub fn format(self) -> &'static str {
        match self {
            Self::Aliases => "Weir",
            Self::Objects => "OpenRouter",
            Self::Lists | Self::Text => "LiteLLM",
        }
    }

    /// The whole of it.
    pub fn document(self) -> String {
        let (head, part, tail) = match self {
            Self::Aliases => (
                "entries: [&e {model: m, inputUsdPerMillionTokens: '1', outputUsdPerMillionTokens: '1'}",
                ", *e",
                "]",
            ),
            Self::Objects => (r#"{"data": [{}"#, ",{}", "]}"),
            Self::Lists => (r#"{"m": "#, "[", ""),
            Self::Text => {
                let digits = "9".repeat(10 << 20);
                return format!(r#"{{"m": {{"input_cost_per_token": "{digits}"}}}}"#);
            }
        };
        let parts = (SIZE - head.len() - tail.len()) / part.len();
        format!("{head}{}{tail}", part.repeat(parts))
    }
}

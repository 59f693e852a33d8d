//! What the format of a provider's API means: how a request is put, authorized and addressed, and how its answers are
//! read. Whatever sends to a provider or reads of it asks here; a new format is one file and one arm of [`of`].

mod contract;
mod openai_chat;

pub(crate) use contract::Format;

use weir_crds::provider::ProviderFormat;

/// What a format means.
pub(crate) fn of(format: ProviderFormat) -> &'static dyn Format {
    match format {
        ProviderFormat::OpenAIChat => &openai_chat::OpenAiChat,
    }
}

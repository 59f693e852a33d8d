//! The model's chat template: a conversation to a prompt.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;

const NAME: &str = "chat";
/// Instructions that a template may run; the largest known template needs some ten thousand for a long conversation.
const FUEL: u64 = 20_000_000;

/// Why a conversation has no prompt.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The template itself is wrong.
    #[error("the chat template is malformed: {0}")]
    Template(String),
    /// The template refused the conversation, or could not handle it.
    #[error("the chat template refused the messages: {0}")]
    Render(String),
}

/// One message as templates see it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Further members (`name`, `tool_calls`, …).
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// A compiled template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// The cause without the position in the template.
fn describe(error: &Error) -> String {
    error
        .detail()
        .map_or_else(|| error.to_string(), str::to_owned)
}

impl ChatTemplate {
    /// Compiles a template; `bos` and `eos` are the texts of those tokens.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, ChatError> {
        let template_error = |error: Error| ChatError::Template(describe(&error));
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(template_error)?;
        Ok(Self {
            environment,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    /// The prompt for the assistant's next message.
    pub fn render(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
    ) -> Result<String, ChatError> {
        let render_error = |error: Error| ChatError::Render(describe(&error));
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| ChatError::Template(describe(&error)))?;
        let context = context! {
            messages => Value::from(Serde(messages)),
            tools => tools.map(|tools| Value::from(Serde(tools))),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        template.render(context).map_err(render_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message {
            role: role.to_owned(),
            content: content.to_owned(),
            ..Message::default()
        }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, ChatError> {
        ChatTemplate::new(source, "<s>", "</s>")?.render(messages, None)
    }

    const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn a_conversation_is_rendered_with_the_generation_prompt() {
        let prompt = render(CHATML, &[message("user", "hi")]).expect("renders");
        assert_eq!(
            prompt,
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn what_templates_written_for_python_use_is_there() {
        let source = "{{ bos_token }}{% if messages[0].content.strip().startswith('a') %}{{ messages[0]['content'] | trim }}{% endif %}{% if tools is none or not tools %}-{% endif %}{{ strftime_now('%Y') | length }}";
        let prompt = render(source, &[message("user", " abc ")]).expect("renders");
        assert_eq!(prompt, "<s>abc-4");
    }

    #[test]
    fn blocks_on_their_own_line_leave_no_trace() {
        let source = "{%- for m in messages %}\n    {% if m.role == 'user' %}\nU:{{ m.content }}\n    {% endif %}\n{%- endfor %}";
        assert_eq!(
            render(source, &[message("user", "x")])
                .expect("renders")
                .trim(),
            "U:x"
        );
    }

    #[test]
    fn a_template_can_refuse_a_conversation() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let error = render(source, &[message("user", "x")]).expect_err("refused");
        assert!(
            error.to_string().contains("roles must alternate"),
            "{error}"
        );
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let source = "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(matches!(
            render(source, &[message("user", "x")]),
            Err(ChatError::Render(_))
        ));
    }

    #[test]
    fn a_malformed_template_is_found_when_it_is_compiled() {
        assert!(matches!(
            ChatTemplate::new("{% for %}", "", ""),
            Err(ChatError::Template(_))
        ));
    }
}

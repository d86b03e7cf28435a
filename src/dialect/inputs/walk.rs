use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::domain::estimate::{Inputs, Unbounded};

/// Counts what is not text in a list of messages or items.
///
/// Media in a place where the API reads blocks is subtracted from the text. What looks like media anywhere else is
/// counted, and yet stays text, since the provider may read it either way. In the inputs of tools everything is text:
/// otherwise a client could hide text there as an image that nobody sees.
pub(super) fn messages(list: &[u8], inputs: &mut Inputs) -> Result<(), serde_json::Error> {
    let mut document = serde_json::Deserializer::from_slice(list);
    Value { inputs, is_block: true }.deserialize(&mut document)?;
    document.end()
}

/// A value to walk.
struct Value<'i> {
    inputs: &'i mut Inputs,
    /// Whether it is where the API reads messages, their blocks, and what those contain.
    is_block: bool,
}

/// What a value means to the object around it.
enum Seen {
    Text(Text),
    Object(Box<Object>),
    List,
    Nothing,
}

/// The beginning of a string, and its length.
#[derive(Default, Clone, Copy)]
struct Text {
    len: usize,
    head: [u8; 24],
}

impl Text {
    fn new(text: &str) -> Self {
        let mut new = Text { len: text.len(), head: [0; 24] };
        new.head.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        new
    }

    fn is(&self, word: &str) -> bool {
        self.len == word.len() && self.starts_with(word)
    }

    fn starts_with(&self, word: &str) -> bool {
        self.head.starts_with(word.as_bytes())
    }

    /// Whether it is a `data:` URL of another type than those that begin like this.
    fn is_of_another_type(&self, kind: &str) -> bool {
        let (scheme, rest) = self.head.split_at("data:".len());
        let is_it = rest.get(..kind.len()).is_some_and(|rest| rest.eq_ignore_ascii_case(kind.as_bytes()));
        scheme.eq_ignore_ascii_case(b"data:") && !is_it
    }
}

/// The members of an object that may cost tokens.
#[derive(Default)]
struct Object {
    kind: Option<Text>,
    media_type: Option<Text>,
    data: Option<Text>,
    url: Option<Text>,
    source: Option<Box<Object>>,
    /// By itself, or the `url` of the object that it is.
    image_url: Option<Text>,
    file_data: Option<Text>,
    /// Whether there is an id or a URL of a file, or a video.
    refers: bool,
    has_id: bool,
    has_role: bool,
    /// Whether a member that counts is named twice: only the provider knows which one is meant.
    is_doubled: bool,
}

impl Object {
    fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|found| found.is(kind))
    }

    /// Counts the object, unless it is part of another that counts for both.
    fn settle(&self, is_block: bool, inputs: &mut Inputs) {
        if self.is_doubled {
            inputs.unbounded.get_or_insert(Unbounded::new("messages", "a block names a member twice"));
        }
        // Whatever the type says, a server may read any of these.
        let is_image = self.is("image") || self.is("input_image");
        if let Some(source) = &self.source {
            self.settle_source(source, is_image, is_block, inputs);
        }
        match self.image_url {
            // Gemini takes it for what it says that it is.
            Some(url) if url.is_of_another_type("image/") => inputs.documents += 1,
            Some(url) => {
                inputs.images += 1;
                inputs.remote_images += u64::from(!url.starts_with("data:"));
                if is_block && url.starts_with("data:image/") {
                    inputs.media_bytes += url.len as u64;
                }
            }
            None if self.source.is_none() && (is_image || self.is("image_url")) => {
                inputs.images += 1;
                inputs.remote_images += 1;
            }
            None => {}
        }
        if self.refers && !is_image {
            inputs.references += 1;
        }
        if let Some(data) = self.file_data {
            inputs.documents += 1;
            if is_block {
                inputs.media_bytes += data.len as u64;
            }
        }
        if self.is("tool_reference") {
            inputs.tool_references += 1;
        }
        // An item of Responses that is only an id refers to one that the provider stored.
        if self.is("item_reference") || is_block && self.has_id && self.kind.is_none() && !self.has_role {
            inputs.references += 1;
        }
    }

    fn settle_source(&self, source: &Object, is_image: bool, is_block: bool, inputs: &mut Inputs) {
        if is_image {
            inputs.images += 1;
            inputs.remote_images += u64::from(!source.is("base64"));
        } else if source.is("base64") {
            inputs.documents += 1;
        } else if source.is("url") || source.is("file") {
            inputs.references += 1;
        } else if is_block && !source.is("text") && !source.is("content") {
            // An unknown kind of source: it may be anything.
            inputs.references += 1;
        }
        let media_type = if is_image { "image/" } else { "application/pdf" };
        let is_media = source.is("base64") && source.media_type.is_some_and(|found| found.starts_with(media_type));
        if is_block && is_media && (is_image || self.is("document")) {
            inputs.media_bytes += source.data.map_or(0, |data| data.len as u64);
        }
    }

    /// Adds one member; returns an object that stands for itself.
    fn take(&mut self, key: Key, seen: Seen) -> Option<Box<Object>> {
        match (key, seen) {
            (Key::Type, Seen::Text(text)) => self.is_doubled |= self.kind.replace(text).is_some(),
            (Key::MediaType, Seen::Text(text)) => self.is_doubled |= self.media_type.replace(text).is_some(),
            (Key::Data, Seen::Text(text)) => self.is_doubled |= self.data.replace(text).is_some(),
            (Key::Url, Seen::Text(text)) => self.is_doubled |= self.url.replace(text).is_some(),
            (Key::ImageUrl, Seen::Text(text)) => self.is_doubled |= self.image_url.replace(text).is_some(),
            (Key::ImageUrl, Seen::Object(image)) => {
                self.is_doubled |= self.image_url.replace(image.url.unwrap_or_default()).is_some() || image.is_doubled;
            }
            (Key::FileData, Seen::Text(text)) => self.is_doubled |= self.file_data.replace(text).is_some(),
            (Key::FileId | Key::Video, Seen::Text(_) | Seen::Object(_) | Seen::List) => self.refers = true,
            (Key::File, Seen::Object(file)) => {
                self.is_doubled |= file.is_doubled;
                self.refers |= file.refers;
                self.file_data = self.file_data.or(file.file_data);
            }
            (Key::Id, Seen::Text(_)) => self.has_id = true,
            (Key::Role, Seen::Text(_)) => self.has_role = true,
            (Key::Source, Seen::Object(source)) => {
                self.is_doubled |= source.is_doubled || self.source.is_some();
                self.source = Some(source);
            }
            (_, Seen::Object(object)) => return Some(object),
            _ => {}
        }
        None
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        Ok(Seen::Text(Text::new(text)))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Nothing)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Seen, E> {
        Ok(Seen::Nothing)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Nothing)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Seen, A::Error> {
        let Value { inputs, is_block } = self;
        while let Some(seen) = list.next_element_seed(Value { inputs: &mut *inputs, is_block })? {
            if let Seen::Object(object) = seen {
                object.settle(is_block, inputs);
            }
        }
        Ok(Seen::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let Value { inputs, is_block } = self;
        let mut object = Object::default();
        while let Some(key) = map.next_key_seed(Keys)? {
            if key == Key::Free {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let is_block = is_block && matches!(key, Key::Content | Key::Source | Key::ImageUrl | Key::File);
            let seen = map.next_value_seed(Value { inputs: &mut *inputs, is_block })?;
            inputs.audio |= key == Key::Audio && !matches!(seen, Seen::Nothing);
            if let Some(inner) = object.take(key, seen) {
                inner.settle(is_block, inputs);
            }
        }
        Ok(Seen::Object(Box::new(object)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Type,
    MediaType,
    Data,
    Url,
    ImageUrl,
    FileData,
    /// Or a URL of a file or a document.
    FileId,
    File,
    Id,
    Role,
    Source,
    Audio,
    /// Only servers that imitate OpenAI's API have it. It may be of any length, or a list of its frames.
    Video,
    /// A member that holds blocks, or something with blocks in it.
    Content,
    /// A member that clients may fill freely, and that providers read as text.
    Free,
    Other,
}

/// Reads a key, decoded.
struct Keys;

impl<'de> DeserializeSeed<'de> for Keys {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Keys {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(match Key::of(key) {
            // A lax parser takes such a key, in whatever case, for one of these, and reads its value.
            Key::Other if key.bytes().any(|byte| byte.is_ascii_uppercase()) => match Key::of(&key.to_ascii_lowercase())
            {
                Key::Free => Key::Other,
                key => key,
            },
            key => key,
        })
    }
}

impl Key {
    fn of(key: &str) -> Key {
        match key {
            "type" => Key::Type,
            "media_type" => Key::MediaType,
            "data" => Key::Data,
            "url" => Key::Url,
            "image_url" => Key::ImageUrl,
            "file_data" => Key::FileData,
            "file_id" | "file_url" | "document_url" => Key::FileId,
            "file" => Key::File,
            "id" => Key::Id,
            "role" => Key::Role,
            "source" => Key::Source,
            "audio" | "input_audio" | "audio_url" => Key::Audio,
            "video_url" | "input_video" | "video" => Key::Video,
            "content" | "output" => Key::Content,
            "input" | "arguments" | "text" | "thinking" | "signature" => Key::Free,
            _ => Key::Other,
        }
    }
}

DROP FUNCTION word_prefixes(text);
ALTER TABLE messages DROP COLUMN words;
DROP FUNCTION plain_words(text);

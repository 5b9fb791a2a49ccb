-- Words are what stands between blanks and ASCII punctuation. Left to itself the parser takes `foo-bar.com` for the name of
-- a host, which no search for `bar` finds.
CREATE FUNCTION plain_words(body text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT translate(body, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32))
$$;

-- `simple` knows no language: it neither stems words nor drops any.
ALTER TABLE messages
    ADD COLUMN words tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('simple', plain_words(body))) STORED;

CREATE INDEX messages_words_idx ON messages USING gin (words);

-- 'dep fri' becomes dep:* & fri:*, which finds what has a word that begins with each of these. Plain words hold no operator
-- of the query language. Without any word it is NULL, which finds nothing.
CREATE FUNCTION word_prefixes(terms text) RETURNS tsquery LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT to_tsquery('simple', string_agg(word || ':*', ' & '))
    FROM regexp_split_to_table(plain_words(terms), '\s+') AS word
    WHERE word <> ''
$$;

//! Which PostgreSQL a cluster runs on: what the code says, else the environment, else what is there.

use std::env;

use crate::{Backend, Error, installation::Installation, local, wheel};

/// What was asked for, by the code or by the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) backend: Option<Backend>,
    pub(crate) version: Option<u32>,
    pub(crate) image: Option<(String, String)>,
}

/// What a cluster can be started on.
#[derive(Debug)]
pub(crate) enum Source {
    Programs(Installation),
    #[cfg(feature = "containers")]
    Image(crate::container::ImageName),
}

impl Wish {
    /// Fills in from the environment what the code left open.
    pub(crate) fn or_environment(self) -> Result<Self, Error> {
        self.or(|variable| env::var(variable).ok().filter(|value| !value.is_empty()))
    }

    fn or(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        if self.backend.is_none()
            && let Some(value) = variable("PG_CLUSTER_BACKEND")
        {
            let backend = Backend::named(&value);
            self.backend =
                Some(backend.ok_or_else(|| {
                    wrong("PG_CLUSTER_BACKEND", value, "local, containers or wheel is wanted")
                })?);
        }
        if self.version.is_none()
            && let Some(value) = variable("PG_CLUSTER_VERSION")
        {
            let version = value.parse();
            self.version =
                Some(version.map_err(|_| {
                    wrong("PG_CLUSTER_VERSION", value, "a major version such as 18 is wanted")
                })?);
        }
        if self.image.is_none()
            && let Some(value) = variable("PG_CLUSTER_IMAGE")
        {
            // A colon before a slash belongs to a registry's port.
            let image = value.rsplit_once(':').filter(|(name, tag)| !name.is_empty() && !tag.contains('/'));
            let (name, tag) = image.ok_or_else(|| {
                wrong("PG_CLUSTER_IMAGE", value.clone(), "a name and a tag such as postgres:18 are wanted")
            })?;
            self.image = Some((name.to_owned(), tag.to_owned()));
        }
        Ok(self)
    }

    /// Finds what was asked for; of what is there, installed programs come first, then containers, then the wheel.
    pub(crate) async fn choose(&self) -> Result<Source, Error> {
        match self.backend {
            Some(Backend::Local) => match self.installed().await? {
                Some(found) => Ok(Source::Programs(found)),
                None if self.version.is_some() => self.of_wheel().await,
                None => Err(Error::NothingToRun { tried: self.not_installed() }),
            },
            Some(Backend::Containers) => self.in_containers().await,
            Some(Backend::Wheel) => self.of_wheel().await,
            None => {
                if let Some(found) = self.installed().await? {
                    return Ok(Source::Programs(found));
                }
                let mut tried = vec![self.not_installed()];
                match self.in_containers().await {
                    Ok(source) => return Ok(source),
                    Err(error) => tried.push(error.to_string()),
                }
                match self.of_wheel().await {
                    Ok(source) => Ok(source),
                    Err(error) => {
                        tried.push(error.to_string());
                        Err(Error::NothingToRun { tried: tried.join("; ") })
                    }
                }
            }
        }
    }

    async fn installed(&self) -> Result<Option<Installation>, Error> {
        let version = self.version;
        local::blocking(move || Installation::find(version)).await
    }

    fn not_installed(&self) -> String {
        self.version
            .map_or("none is installed".to_owned(), |major| format!("version {major} is not installed"))
    }

    async fn of_wheel(&self) -> Result<Source, Error> {
        let version = self.version;
        local::blocking(move || wheel::find_or_fetch(version)).await.map(Source::Programs)
    }

    #[cfg(feature = "containers")]
    async fn in_containers(&self) -> Result<Source, Error> {
        let (name, tag) = self.image.clone().unwrap_or_else(|| {
            ("postgres".to_owned(), self.version.map_or("latest".to_owned(), |major| major.to_string()))
        });
        let image = crate::container::ImageName { name, tag };
        image.make_available().await?;
        Ok(Source::Image(image))
    }

    #[cfg(not(feature = "containers"))]
    async fn in_containers(&self) -> Result<Source, Error> {
        let reason = "pg-cluster was built without its feature `containers`".to_owned();
        Err(Error::Unavailable { backend: "containers", reason })
    }
}

fn wrong(key: &str, value: String, expected: &str) -> Error {
    Error::Configuration { key: key.to_owned(), value, expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(backend: &str, version: &str, image: &str) -> Result<Wish, Error> {
        let values =
            [("PG_CLUSTER_BACKEND", backend), ("PG_CLUSTER_VERSION", version), ("PG_CLUSTER_IMAGE", image)];
        Wish::default().or(|variable| {
            let value =
                values.iter().find(|(name, _)| *name == variable).map(|(_, value)| (*value).to_owned());
            value.filter(|value| !value.is_empty())
        })
    }

    #[test]
    fn the_environment_fills_in_what_the_code_left_open() {
        let wish = environment("wheel", "18", "localhost:5000/postgres:18").unwrap();
        assert_eq!(wish.backend, Some(Backend::Wheel));
        assert_eq!(wish.version, Some(18));
        assert_eq!(wish.image, Some(("localhost:5000/postgres".to_owned(), "18".to_owned())));

        let said = Wish { version: Some(16), ..Wish::default() };
        let wish = said.or(|variable| (variable == "PG_CLUSTER_VERSION").then(|| "18".to_owned())).unwrap();
        assert_eq!(wish.version, Some(16));
    }

    #[test]
    fn a_wrong_variable_is_named_with_its_value() {
        for (wish, message) in [
            (
                environment("docker", "", ""),
                "PG_CLUSTER_BACKEND is `docker`: local, containers or wheel is wanted",
            ),
            (
                environment("", "18.1", ""),
                "PG_CLUSTER_VERSION is `18.1`: a major version such as 18 is wanted",
            ),
            (
                environment("", "", "localhost:5000/postgres"),
                "PG_CLUSTER_IMAGE is `localhost:5000/postgres`: a name and a tag such as postgres:18 are wanted",
            ),
        ] {
            assert_eq!(wish.unwrap_err().to_string(), message);
        }
    }
}

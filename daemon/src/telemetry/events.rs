//! Ids of the messages that programs may look for in the journal (`journalctl MESSAGE_ID=…`). Never reused.
//!
//! `packaging/coft.catalog` explains each of them to people (`journalctl -x`).

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $id;)*
        #[cfg(test)]
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $id)),*];
    };
}

ids! {
    /// The service answers on the bus.
    STARTED = "d2db6154117f1b082cd830f903350aaa";
    /// The service has ended because of an error, not because somebody stopped it.
    FAILED = "cda48807a7fb456cb0cfb05260d15d35";
    /// The configuration has a mistake, and the service has ended.
    BAD_CONFIGURATION = "2181c66c50404d15ad440028a8cf753e";
    STOPPING = "a87aa4629fbb3760e1aadd92086d8329";
    /// The configuration was read again and is used.
    RELOADED = "00f1aa3c3cc803a5dd5b21832be7d479";
    /// The configuration was read again but is not used; the old one stays.
    NOT_RELOADED = "d0c5450cdab446bffe6ac629e0afc805";
    SOURCE_WATCHED = "546e9e3808ccc2535b5eb6432ad3ec5c";
    SOURCE_PROBLEM = "e5edea5a681859320ff58d92e755dc29";
    /// A file holds no usable image.
    QUARANTINED = "e8bced0060663aaf9a7e6262beaa99ef";
    /// Images cannot be stored now; the service tries again.
    INTAKE_TROUBLE = "1a44282c1bbb979bcf0267618d875794";
    /// Images can be stored again.
    INTAKE_RESUMED = "ff26a693d80a4198a801133a4eb27f29";
    /// The catalogue was damaged; a new one took its place.
    CATALOG_REBUILT = "17766966e227467190823cdc2fa30b48";
    /// Something that a setting names is not there yet, or has changed since it was read.
    SETUP_PROBLEM = "5a90a7a8b44845518f1668cdbc35a4a2";
    /// What was missing is there now.
    SETUP_COMPLETE = "19b20407786e49d6ad1e3ece81ead7df";
    /// A round that is due cannot start now; the service tries again.
    ROUND_POSTPONED = "94f4b68553834a1d80327b2af517479c";
    JOB_STARTED = "63fe3ce188a74e628ed0d2ee95d6fc3f";
    JOB_WARNING = "9b63e54bd631aa7e0400439daa90ec2b";
    JOB_FAILED = "e10f58dd1243c71c373f50ed5efc10d8";
    JOB_CANCELLED = "3e76fa002cbc9f3f5a76a297812f56be";
    JOB_INTERRUPTED = "3b9aebe8301361b7dfddaecd84de778a";
    /// A candidate was not good enough.
    KEPT = "889eccf308fd62789a4aa88367570684";
    /// A candidate became the active generation.
    PROMOTED = "eb16d15034096090e3880a46e5d64221";
    /// A person is asked whether a candidate is better than the active generation.
    REVIEW_OPENED = "d421b6cd643d4c6f84c4ffeebe30bdd0";
    /// The person's labels have decided.
    REVIEW_DECIDED = "a76c2ee739ed40a2847851d1a3a97e22";
    /// A generation answers requests.
    SERVING = "32687681757b9cfca174a6fbf8f0be3c";
    /// The active generation cannot be loaded.
    NOT_SERVING = "b9588ff83687a5babbc90456ae385dca";
}

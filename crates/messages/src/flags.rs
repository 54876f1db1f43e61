//! The feature flags of `SetupConnection` and its answers, one type for each protocol and direction.

use core::fmt;
use core::ops::BitOr;

/// Declares a set of flags over the 32 bits of a message field.
macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$flag_doc:meta])* $flag:ident = $bit:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub struct $name(u32);

        impl $name {
            /// No flag.
            pub const NONE: Self = Self(0);
            /// Every flag that the specification defines here.
            pub const ALL: Self = Self($(1 << $bit)|+);
            $($(#[$flag_doc])* pub const $flag: Self = Self(1 << $bit);)+

            /// The flags as a message's `flags` field carries them, bits that nobody has defined included.
            #[must_use]
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// The value for a message's `flags` field.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether every flag of `other` is set here.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether no bit is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The flags that are set here and not in `other`: asked for but not supported, for `SetupConnection.Error`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        /// Names of the flags that are set, and the bits without a name.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut list = f.debug_list();
                $(if self.contains(Self::$flag) {
                    list.entry(&format_args!(stringify!($flag)));
                })+
                let nameless = self.without(Self::ALL);
                if !nameless.is_empty() {
                    list.entry(&format_args!("{:#x}", nameless.0));
                }
                list.finish()
            }
        }
    };
}

flags! {
    /// `SetupConnection.flags` and `SetupConnection.Error.flags` of the mining protocol (spec 5.3.1).
    MiningSetupFlags {
        /// The client understands standard jobs only.
        REQUIRES_STANDARD_JOBS = 0;
        /// The client will send `SetCustomMiningJob`.
        REQUIRES_WORK_SELECTION = 1;
        /// The client needs jobs that allow version rolling.
        REQUIRES_VERSION_ROLLING = 2;
    }
}

flags! {
    /// `SetupConnection.Success.flags` of the mining protocol (spec 5.3.1).
    MiningSuccessFlags {
        /// The server accepts no change to the version field.
        REQUIRES_FIXED_VERSION = 0;
        /// The server opens no standard channels.
        REQUIRES_EXTENDED_CHANNELS = 1;
    }
}

flags! {
    /// `SetupConnection.flags` and `SetupConnection.Error.flags` of the job declaration protocol (spec 6.4.1).
    ///
    /// Neither its `SetupConnection.Success` nor the template distribution protocol defines any flag.
    JobDeclarationSetupFlags {
        /// The client reveals the transactions of its templates (full-template mode).
        DECLARE_TX_DATA = 0;
    }
}

#[cfg(test)]
mod tests {
    use common_messages_sv2::{
        has_declare_tx_data, has_requires_std_job, has_version_rolling, has_work_selection,
    };

    use super::*;

    #[test]
    fn bits_agree_with_the_published_crate() {
        for bits in 0..16 {
            let flags = MiningSetupFlags::from_bits(bits);
            assert_eq!(flags.contains(MiningSetupFlags::REQUIRES_STANDARD_JOBS), has_requires_std_job(bits));
            assert_eq!(flags.contains(MiningSetupFlags::REQUIRES_WORK_SELECTION), has_work_selection(bits));
            assert_eq!(flags.contains(MiningSetupFlags::REQUIRES_VERSION_ROLLING), has_version_rolling(bits));
            let flags = JobDeclarationSetupFlags::from_bits(bits);
            assert_eq!(flags.contains(JobDeclarationSetupFlags::DECLARE_TX_DATA), has_declare_tx_data(bits));
        }
        // The published crate has no function for these two; the numbers are those of spec 5.3.1.
        assert_eq!(MiningSuccessFlags::REQUIRES_FIXED_VERSION.bits(), 1);
        assert_eq!(MiningSuccessFlags::REQUIRES_EXTENDED_CHANNELS.bits(), 2);
    }

    #[test]
    fn what_is_not_supported_is_named_for_the_error() {
        let asked = MiningSetupFlags::from_bits(0b1110);
        let supported = MiningSetupFlags::REQUIRES_STANDARD_JOBS | MiningSetupFlags::REQUIRES_VERSION_ROLLING;
        assert_eq!(asked.without(supported).bits(), 0b1010);
        assert!(supported.without(MiningSetupFlags::ALL).is_empty());
        assert_eq!(format!("{:?}", asked.without(supported)), "[REQUIRES_WORK_SELECTION, 0x8]");
    }
}

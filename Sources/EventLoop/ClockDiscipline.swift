internal import CLinux

/// What the kernel knows about the wall clock's truth.
public enum ClockDiscipline {
    /// Whether NTP disciplines it, and how wrong it may be, in milliseconds.
    public static var state: (isSynchronised: Bool, errorMilliseconds: Int) {
        var error = 0
        let isSynchronised = martlet_clock_is_synchronised(&error) != 0
        return (isSynchronised, error / 1_000)
    }
}
